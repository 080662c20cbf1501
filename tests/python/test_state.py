# SPDX-License-Identifier: Apache-2.0
"""What erlang._state asks Erlang for."""

import unittest

from under_test import Atom, Error, load


class State(unittest.TestCase):
    def setUp(self):
        self.asked, self.answers = [], {}
        self.module = load("_state", call=self.call, state_incr=self.incr)

    def call(self, name, op, *args):
        self.assertEqual((name, type(name), type(op)), ("$py_state", Atom, Atom))
        self.asked.append((op, *args))
        return self.answers[op]

    def incr(self, key, n=1):
        self.asked.append(("incr", key, n))
        if isinstance(key, Exception):
            raise key
        return 100 + n

    def test_get_gives_the_value_or_the_default(self):
        self.answers["get"] = (True, False)
        self.assertIs(self.module.state_get("k"), False)
        self.assertIs(self.module.state_get("k", 5), False)
        self.answers["get"] = False
        self.assertIs(self.module.state_get("k"), None)
        self.assertEqual(self.module.state_get("k", 5), 5)
        self.assertEqual(self.module.state_get("k", default=6), 6)
        self.assertEqual(set(self.asked), {("get", "k")})

    def test_the_others_pass_on_what_they_get(self):
        self.answers.update(set=Atom("ok"), delete=True, keys=["a", 1], clear=Atom("ok"))
        self.assertIsNone(self.module.state_set("k", [1]))
        self.assertIs(self.module.state_delete("k"), True)
        self.assertEqual(self.module.state_keys(), ["a", 1])
        self.assertIsNone(self.module.state_clear())
        self.assertEqual((self.module.state_decr("k"), self.module.state_decr("k", 5)), (99, 95))
        self.assertEqual(self.asked, [("set", "k", [1]), ("delete", "k"), ("keys",), ("clear",), ("incr", "k", -1),
                                      ("incr", "k", -5)])

    def test_what_is_no_integer_cannot_be_counted(self):
        for reason, expected in (("not_an_integer", "k"), TypeError), ("badarg", Error), ((), Error):
            error = Error("error")
            error.reason = reason
            with self.subTest(reason), self.assertRaises(expected):
                self.module.state_incr(error)
        self.assertEqual((self.module.state_incr("k"), self.module.state_incr("k", n=-3)), (101, 97))


if __name__ == "__main__":
    unittest.main()
