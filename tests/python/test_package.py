# SPDX-License-Identifier: Apache-2.0
"""The package `erlang` as any Python sees it: outside the VM it says why it cannot work,
and what it promises to tools (types, names, documentation) is there."""

import ast
import importlib.util
import pathlib
import subprocess
import sys
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
        for node in tree.body:
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


if __name__ == "__main__":
    unittest.main()
