# SPDX-License-Identifier: Apache-2.0
#
# make check: builds the unit tests in C, then hands all tests to run_tests.
#
#   make check VARIANTS="cp311-multi_executor"    these variants only
#   make check TESTS_CT="py_call_SUITE"           this suite only; also SUITE:CASE,CASE
#   make check TESTS_C="queue_test"               this unit test only
#   make check TESTS_EXAMPLES="shared_state"      this example only
#   make check TESTS_PYTHON="test_atoms"          this unittest module only
#   make check CHECK_FLAGS="--verbose"            other options of run_tests
#   make check-conformance                        see tests/conformance/run; CONFORMANCE_FLAGS are its options
#
# A unit test is a program: tests/c/NAME_test.c, and the files of c_src that one line in
# it names: "LINKS: epy_queue.c epy_bigint.c".  These are free of Python and of Erlang.

VARIANTS =
TESTS_CT =
TESTS_C =
TESTS_EXAMPLES =
TESTS_PYTHON =
CHECK_FLAGS =

EPY_C_TESTS = $(patsubst $(srcdir)/tests/c/%.c,%,$(wildcard $(srcdir)/tests/c/*_test.c))
EPY_C_TEST_PROGRAMS = $(EPY_C_TESTS:%=obj/tests/%)

epy_test_compile = $(CC) -DEPY_UNIT_TEST=1 -I$(srcdir)/tests/c $(epy_cppflags) $(epy_cflags)

obj/tests/flags: epy-force
	$(call epy_when_changed,$(epy_test_compile) $(LDFLAGS) $(epy_libs))

obj/tests/%.o: $(srcdir)/tests/c/%.c obj/tests/flags
	$(EPY_V_CC)$(epy_test_compile) -MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@ $<

obj/tests/%.o: $(srcdir)/c_src/%.c obj/tests/flags
	$(EPY_V_CC)$(epy_test_compile) -MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@ $<

define epy_c_test_rules
epy_objects_$(1) := obj/tests/$(1).o $$(patsubst %.c,obj/tests/%.o,$$(shell sed -n 's/.*LINKS: *\([a-z0-9_. ]*\).*/\1/p' $$(srcdir)/tests/c/$(1).c))

obj/tests/$(1): $$(epy_objects_$(1))
	$$(EPY_V_LD)$$(CC) $$(epy_cflags) $$(LDFLAGS) -o $$@ $$(epy_objects_$(1)) $$(epy_libs)

-include $$(epy_objects_$(1):.o=.d)
endef

$(foreach test,$(EPY_C_TESTS),$(eval $(call epy_c_test_rules,$(test))))
.SECONDARY: $(foreach test,$(EPY_C_TESTS),$(epy_objects_$(test)))

# A file that no list names would be missing in the release, and be noticed by users.
epy_unlisted = $(filter-out \
  $(addprefix $(srcdir)/c_src/,$(EPY_SOURCES) $(EPY_HEADERS) $(EPY_PROGRAM_SOURCES)) \
  $(addprefix $(srcdir)/erl/,$(EPY_ERL_FIRST) $(EPY_ERL) $(EPY_HRL)), \
  $(wildcard $(srcdir)/c_src/*.[ch] $(srcdir)/erl/*.[eh]rl))

check-lists:
	@unlisted='$(strip $(epy_unlisted))'; test -z "$$unlisted" || { \
	  echo "not named in the sources.mk beside it: $$unlisted" >&2; exit 1; }

check-run: all-am check-lists $(EPY_C_TEST_PROGRAMS)
	@$(EPY_EXECUTABLE_$(firstword $(EPY_TAGS))) $(srcdir)/tests/run_tests \
	  --ebin ebin --out test-logs --tests $(srcdir)/tests --erl '$(ERL)' --erlc '$(ERLC)' \
	  --variants '$(or $(VARIANTS),$(EPY_VARIANTS))' \
	  --ct '$(TESTS_CT)' --c '$(TESTS_C)' --examples '$(TESTS_EXAMPLES)' --python-tests '$(TESTS_PYTHON)' \
	  --c-programs '$(EPY_C_TEST_PROGRAMS)' \
	  --pythons '$(foreach tag,$(EPY_TAGS),$(tag)=$(EPY_EXECUTABLE_$(tag)))' \
	  --sanitizers '$(EPY_SANITIZERS)' --preload '$(EPY_PRELOAD)' $(CHECK_FLAGS)

check-local: check-run

# CPython's own tests of asyncio, with our event loop in the VM: minutes for each variant.
check-conformance: all-am
	@$(EPY_EXECUTABLE_$(firstword $(EPY_TAGS))) $(srcdir)/tests/conformance/run . $(or $(VARIANTS),$(EPY_VARIANTS)) \
	  --erl '$(ERL)' $(CONFORMANCE_FLAGS)

.PHONY: check-lists check-run check-conformance
