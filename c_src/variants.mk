# SPDX-License-Identifier: Apache-2.0
#
# One NIF library per variant: priv/epy-<variant>.so, from the same sources.
#
# Automake knows programs that are listed when it runs; which variants there are is
# known only after configure.  So the rules are a template that GNU make expands for
# each name in EPY_VARIANTS (pythons.mk).  No libtool: a NIF is a plugin that is loaded
# by its path, of which neither a static twin, a soname nor relinking makes sense.

EPY_NIFS = $(EPY_VARIANTS:%=priv/epy-%.so)

epy_mode_multi_executor = -DEPY_MODE_MULTI_EXECUTOR=1
epy_mode_subinterp = -DEPY_MODE_SUBINTERP=1
epy_mode_free_threaded = -DEPY_MODE_FREE_THREADED=1

epy_warnings = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(EPY_WERROR)

# What all C files are compiled with, those of the unit tests too.  The user's own
# flags come last, except for the options of configure, which are the user's as well.
epy_cppflags = -I. -I$(srcdir)/c_src $(ERLANG_CFLAGS) $(EPY_EXTRA_CPPFLAGS) $(FFI_CFLAGS) $(CPPFLAGS)
epy_cflags = -std=gnu11 -fvisibility=hidden -pthread $(epy_warnings) $(CFLAGS) -fPIC $(EPY_EXTRA_CFLAGS)
epy_libs = $(FFI_LIBS) $(LIBS) $(EPY_ATOMIC_LIBS) -lpthread -ldl -lm

EPY_V_CC = $(epy_v_cc_$(V))
epy_v_cc_ = $(epy_v_cc_$(AM_DEFAULT_VERBOSITY))
epy_v_cc_0 = @echo "  CC       $@";
EPY_V_LD = $(epy_v_ld_$(V))
epy_v_ld_ = $(epy_v_ld_$(AM_DEFAULT_VERBOSITY))
epy_v_ld_0 = @echo "  LD       $@";

# The commands, with the variant as their argument.
epy_tag = $(firstword $(subst -, ,$(1)))
epy_mode = $(lastword $(subst -, ,$(1)))
epy_compile = $(CC) $(EPY_PY_CFLAGS_$(epy_tag)) $(epy_mode_$(epy_mode)) \
  -DEPY_VARIANT='"$(1)"' \
  -DEPY_PYTHON_EXECUTABLE='"$(EPY_EXECUTABLE_$(epy_tag))"' \
  -DEPY_PYTHON_STDLIB='"$(EPY_STDLIB_$(epy_tag))"' \
  $(epy_cppflags) $(epy_cflags)
epy_link = $(CC) -shared -Wl,--version-script=$(srcdir)/c_src/nif.map $(epy_cflags) $(LDFLAGS)

# $(call epy_when_changed,TEXT): rewrites the target when it says something else than
# TEXT; what depends on the target is then made anew.
define epy_when_changed
@$(MKDIR_P) $(@D); printf '%s\n' '$(subst ','\'',$(1))' >$@.new; \
  if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi
endef

define epy_variant_rules
epy_objects_$(1) := $$(patsubst %.c,obj/$(1)/%.o,$$(EPY_SOURCES))

# Other flags, other objects: whether from configure or from the command line.
obj/$(1)/flags: epy-force
	$$(call epy_when_changed,$$(call epy_compile,$(1)) $$(epy_link) $$(EPY_PY_LIBS_$(call epy_tag,$(1))) $$(epy_libs))

$$(epy_objects_$(1)): obj/$(1)/%.o: $$(srcdir)/c_src/%.c obj/$(1)/flags
	$$(EPY_V_CC)$$(call epy_compile,$(1)) -MMD -MP -MT $$@ -MF $$(@:.o=.d) -c -o $$@ $$<

priv/epy-$(1).so: $$(epy_objects_$(1)) $$(srcdir)/c_src/nif.map
	@$$(MKDIR_P) $$(@D)
	$$(EPY_V_LD)$$(epy_link) -o $$@ $$(epy_objects_$(1)) $$(EPY_PY_LIBS_$(call epy_tag,$(1))) $$(epy_libs)

-include $$(epy_objects_$(1):.o=.d)
endef

$(foreach variant,$(EPY_VARIANTS),$(eval $(call epy_variant_rules,$(variant))))

# Programs that ports run: one file each, the same for all variants.
EPY_PROGRAMS = $(EPY_PROGRAM_SOURCES:%.c=priv/bin/%)
epy_build_program = $(CC) $(epy_cppflags) $(epy_cflags) $(LDFLAGS)

obj/programs/flags: epy-force
	$(call epy_when_changed,$(epy_build_program))

$(EPY_PROGRAMS): priv/bin/%: $(srcdir)/c_src/%.c obj/programs/flags
	@$(MKDIR_P) $(@D)
	$(EPY_V_LD)$(epy_build_program) -o $@ $<

nifs: $(EPY_NIFS)
all-local: $(EPY_NIFS) $(EPY_PROGRAMS)

# For people who look at one variant at a time: "make cp313-subinterp".
$(EPY_VARIANTS): %: priv/epy-%.so

.PHONY: nifs epy-force $(EPY_VARIANTS)
.DELETE_ON_ERROR:
