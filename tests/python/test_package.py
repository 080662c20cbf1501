# SPDX-License-Identifier: Apache-2.0
"""The package `erlang` as any Python sees it: outside the VM it says why it cannot work,
and what it promises to tools (types, names, documentation) is there."""

import ast
import importlib.util
import pathlib
import subprocess
import sys
import textwrap
import unittest

PACKAGE = pathlib.Path(importlib.util.find_spec("erlang").origin).parent


class Package(unittest.TestCase):
    def test_import_outside_the_vm_names_the_module_that_is_missing(self):
        done = subprocess.run([sys.executable, "-c", "import erlang"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ModuleNotFoundError", done.stderr)
        self.assertIn("_erlang", done.stderr)

    def test_every_file_compiles_without_a_warning(self):
        for path in PACKAGE.rglob("*.py"):
            with self.subTest(path.name):
                program = "import pathlib, sys; compile(pathlib.Path(sys.argv[1]).read_bytes(), sys.argv[1], 'exec')"
                done = subprocess.run([sys.executable, "-W", "error", "-c", program, str(path)],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                self.assertEqual((done.returncode, done.stdout), (0, b""))

    def test_the_package_says_that_it_is_typed(self):
        self.assertTrue((PACKAGE / "py.typed").is_file())

    def test_public_names_are_listed_sorted_and_defined(self):
        tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
        listed, defined = [], set()
        later = [node for block in tree.body if isinstance(block, ast.If) for node in block.body
                 if isinstance(node, ast.ImportFrom) and node.level > 0]
        for node in tree.body + later:
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
                listed = ast.literal_eval(node.value)
            elif isinstance(node, ast.ImportFrom):
                defined |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.add(node.name)
        self.assertTrue(listed)
        self.assertEqual(listed, sorted(listed))
        self.assertEqual(set(listed) - defined, set())
        self.assertEqual({name for name in defined if not name.startswith("_")} - set(listed), set())

    def test_public_functions_have_documentation_and_types(self):
        for path in PACKAGE.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
                    with self.subTest("%s: %s" % (path.name, node.name)):
                        self.assertIsNotNone(ast.get_docstring(node))
                        self.assertIsNotNone(node.returns)


class Inside(unittest.TestCase):
    """The package with a stub of `_erlang`, in a process of its own: it replaces sys.stdout."""

    PROGRAM = textwrap.dedent("""\
        import sys, types, under_test

        class Everything(types.ModuleType):
            def __getattr__(self, name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return type(name, (), {})

        asked = []

        def call(name, *args):
            if name == "$py_registered":
                asked.append(*args)
                return args[0].startswith("known")
            return (name, *args)

        base = under_test.stub(call=call, output=lambda text: False, output_flush=lambda: None)
        _erlang = Everything("_erlang")
        _erlang.__dict__.update({key: base.__dict__[key] for key in vars(base) if not key.startswith("__")})
        sys.modules["_erlang"] = _erlang
        import erlang
        """)

    def run_inside(self, code):
        done = subprocess.run([sys.executable, "-c", self.PROGRAM + textwrap.dedent(code)],
                              cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_import_leaves_what_takes_long_for_later(self):
        self.run_inside("assert not {'asyncio', 'logging', 'erlang._trace'} & set(sys.modules)")

    def test_every_public_name_is_there(self):
        self.run_inside("""
            for name in erlang.__all__:
                assert getattr(erlang, name) is getattr(erlang, name)
                assert name in vars(erlang)
            from erlang import *
            assert asked == []""")

    def test_registered_functions_are_attributes(self):
        self.run_inside("""
            from erlang import known
            assert erlang.known is known and known(1, 2) == ("known", 1, 2)
            assert (repr(known), known.__name__, known.__module__) == ("<Erlang function 'known'>", "known", "erlang")
            assert asked == ["known"]
            import pickle
            for wrong in (lambda: known(a=1), lambda: pickle.dumps(known)):
                try:
                    wrong()
                except TypeError:
                    continue
                assert False""")

    def test_other_names_are_errors_that_tell_how_to_register(self):
        self.run_inside("""
            try:
                erlang.other
            except AttributeError as error:
                assert "'other'" in str(error) and "py:register_function" in str(error)
            else:
                assert False
            try:
                from erlang import another
            except ImportError:
                pass
            else:
                assert False
            assert set(asked) == {"other", "another"}""")

    def test_names_of_python_and_of_submodules_are_not_asked_for(self):
        self.run_inside("""
            from erlang import _errors
            assert not hasattr(erlang, "__wrapped__") and not hasattr(erlang, "_stream")
            assert asked == []""")


if __name__ == "__main__":
    unittest.main()
