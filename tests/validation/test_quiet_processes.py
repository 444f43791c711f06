"""Ctrl-C does not reach worker processes; whoever started them ends them."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.context import SpawnContext

import pytest

from cmiei_hooks.validation.quiet_processes import QuietContext

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no masks"),
]


def test_a_process_does_not_see_it_from_its_first_moment_on():
    context = QuietContext()
    process = context.Process(target=time.sleep, args=(0.1,))
    process.start()
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()  # this process sees it as before


def test_they_are_ended_together():
    context = QuietContext()
    processes = [context.Process(target=time.sleep, args=(60,)) for _ in range(2)]
    for process in processes:
        process.start()
    context.end()
    for process in processes:
        process.join(60)
        assert process.exitcode == -signal.SIGTERM


@pytest.mark.negative_control
def test_another_process_sees_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits SIG_IGN
    process = SpawnContext().Process(target=time.sleep, args=(60,))
    process.start()
    signal.signal(signal.SIGINT, before)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode != 0
