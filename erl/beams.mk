# SPDX-License-Identifier: Apache-2.0
#
# The OTP application: ebin/*.beam and ebin/erlang_python.app.

EPY_BEAMS_FIRST = $(EPY_ERL_FIRST:%.erl=ebin/%.beam)
EPY_BEAMS = $(EPY_BEAMS_FIRST) $(EPY_ERL:%.erl=ebin/%.beam)
EPY_APP = ebin/$(PACKAGE).app

EPY_V_ERLC = $(epy_v_erlc_$(V))
epy_v_erlc_ = $(epy_v_erlc_$(AM_DEFAULT_VERBOSITY))
epy_v_erlc_0 = @echo "  ERLC     $@";

# deterministic: no absolute paths, the same beams from every build directory.
epy_erlc = $(ERLC) +debug_info +deterministic +warn_export_vars +warn_unused_import $(EPY_ERLC_WERROR) \
  -I $(srcdir)/erl -pa ebin $(ERLCFLAGS)

obj/erl/flags: epy-force
	$(call epy_when_changed,$(epy_erlc))

# Headers are few: each module is made anew when one of them changes.  (erlc could list
# those it includes, but with +deterministic it names them without their directory.)
$(EPY_BEAMS): ebin/%.beam: $(srcdir)/erl/%.erl $(EPY_HRL:%=$(srcdir)/erl/%) obj/erl/flags
	@$(MKDIR_P) $(@D)
	$(EPY_V_ERLC)$(epy_erlc) -o $(@D) $<

$(filter-out $(EPY_BEAMS_FIRST),$(EPY_BEAMS)): $(EPY_BEAMS_FIRST)

epy_empty =
epy_modules = $(subst $(epy_empty) ,$(epy_comma) ,$(sort $(patsubst %.erl,%,$(EPY_ERL_FIRST) $(EPY_ERL))))
epy_comma = ,

obj/erl/modules: epy-force
	$(call epy_when_changed,$(epy_modules))

# The list of modules comes from sources.mk, so that it stands in one place.
$(EPY_APP): $(srcdir)/erl/$(PACKAGE).app.src.in obj/erl/modules
	@$(MKDIR_P) $(@D)
	$(AM_V_GEN)$(SED) -e 's/@PACKAGE_VERSION@/$(VERSION)/' -e 's/@VERSION@/$(VERSION)/' \
	  -e 's/@PACKAGE_NAME@/$(PACKAGE)/' -e "s/@MODULES@/`cat obj/erl/modules`/" $< >$@.new
	@if grep -n '@[A-Z_]*@' $@.new; then echo "$<: nothing fills this in" >&2; exit 1; fi
	@mv -f $@.new $@

all-local: $(EPY_BEAMS) $(EPY_APP)

# The Python package goes where an installed tree has it, so that "erl -pa ebin" works.
EPY_PYTHON_FILES = $(patsubst $(srcdir)/python/%,%,$(wildcard $(addprefix $(srcdir)/python/,*.pyi $(addprefix erlang/,*.py *.pyi py.typed */*.py */*.pyi))))
EPY_PRIV_PYTHON = $(EPY_PYTHON_FILES:%=priv/python/%)

$(EPY_PRIV_PYTHON): priv/python/%: $(srcdir)/python/%
	@$(MKDIR_P) $(@D)
	$(AM_V_GEN)cp -f $< $@

all-local: $(EPY_PRIV_PYTHON)
