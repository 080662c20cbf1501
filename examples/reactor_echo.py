# SPDX-License-Identifier: Apache-2.0
"""The protocol of reactor_echo.erl."""

from erlang.reactor import Protocol


class Echo(Protocol):
    """Sends back what comes."""

    def data_received(self, data):
        if data == b"bye":
            return "close"
        if data == b"who am I?":
            self.write_buffer += "you are {address}, port {port}".format(**self.client_info).encode()
        elif self.write_buffer:
            self.write_buffer += data
        else:
            # `data` is the buffer itself that was read into: what can be written now is never copied.
            self.write_buffer += data[self.write(data):]
        return "write_pending" if self.write_buffer else "continue"
