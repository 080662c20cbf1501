# SPDX-License-Identifier: Apache-2.0
"""What it costs on this machine to wake another process and be woken by it.

One call of one caller is mostly two wake-ups, whoever makes the call, and what
a wake-up costs differs between machines by a factor of ten (idle states,
virtual machines).  So the benchmarks print it above their table.  Two processes
pass a byte to and fro over pipes, first both on one core, then on two.  Prints
the two medians of a round trip in nanoseconds; the second is 0 on one core.
"""

import os
import statistics
import time
from typing import Set

ROUNDS = 5000


def round_trip(ours: Set[int], theirs: Set[int]) -> int:
    there_out, there_in = os.pipe()
    back_out, back_in = os.pipe()
    child = os.fork()
    if child == 0:
        # Without the other ends the child would never see the end of its input.
        os.close(there_in)
        os.close(back_out)
        os.sched_setaffinity(0, theirs)
        while os.read(there_out, 1):
            os.write(back_in, b"x")
        os._exit(0)
    os.close(there_out)
    os.close(back_in)
    os.sched_setaffinity(0, ours)
    samples = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        os.write(there_in, b"x")
        os.read(back_out, 1)
        samples.append(time.perf_counter_ns() - start)
    os.close(there_in)
    os.close(back_out)
    os.waitpid(child, 0)
    return int(statistics.median(samples))


def main() -> None:
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    one = round_trip({cores[0]}, {cores[0]})
    two = round_trip({cores[0]}, {cores[1]}) if len(cores) > 1 else 0
    print(one, two)


if __name__ == "__main__":
    main()
