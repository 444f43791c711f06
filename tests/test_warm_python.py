"""The fork of a warm Python is to a program what a new Python is."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from warm_python import WarmPython

pytestmark = pytest.mark.slow

SURROUNDINGS = """
import atexit, os, signal, sys, threading
atexit.register(print, "at exit")
threading.Thread(target=lambda: [threading.main_thread().join(), print(os.getcwd())]).start()
print(sys.argv, sys.path[:3], sys.orig_argv, sorted(globals()))
print(__name__, __spec__ and __spec__.name, __package__)
print(globals().get("__file__"), sys.stdin.read(), sys.stdout.line_buffering, sys.flags)
print(os.environ["ONE_MORE"], sys.modules["__main__"].__dict__ is globals())
print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGCHLD, signal.SIGTERM)])
print(sorted(os.listdir("/dev/fd")), threading.active_count())
print("on stderr", file=sys.stderr)
"""
SPAWNS = """
import multiprocessing
def say():
    print("spawned", __name__, flush=True)
if __name__ == "__main__":
    one = multiprocessing.get_context("spawn").Process(target=say)
    one.start(), one.join()
    print(one.exitcode)
"""
ENDS = {
    "by itself": "pass",
    "an exception": "def f():\n    raise ValueError('no')\nf()",
    "a cause": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError from error",
    "a wrong syntax": "a = = b",
    "a code": "raise SystemExit(7)",
    "a message": "raise SystemExit('a message')",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "import os\nos.kill(os.getpid(), 9)",
    "at once": "import os\nprint('lost')\nos._exit(3)",
    "spawns": SPAWNS,
}


@pytest.fixture
def cold(tmp_path):
    """The same by a new Python."""

    def run(words, stderr=subprocess.PIPE):
        variables = {"ONE_MORE": "set", "PYTHONPATH": f"{tmp_path}/more"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return subprocess.run(
                [sys.executable, *words],
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL,
                text=True, check=False,
            )  # fmt: skip

    return run


@pytest.fixture
def warm(python, tmp_path):
    def run(words, **options):
        env = {"ONE_MORE": "set", "PYTHONPATH": f"{tmp_path}/more"}
        return python.run(words, cwd=tmp_path, env=env, **options)

    return run


def same(one, other) -> bool:
    assert one.stdout.splitlines() == other.stdout.splitlines()
    assert one.stderr == other.stderr
    assert one.returncode == other.returncode
    return True


@pytest.mark.parametrize("ending", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("how", ["script", "module", "code"])
def test_a_program_sees_and_leaves_the_same(cold, warm, tmp_path, how, ending):
    program = SURROUNDINGS + ending
    (tmp_path / "package").mkdir()
    (tmp_path / "package/program.py").write_text(program)
    words = {
        "script": ["package/program.py", "--flag", "1"],
        "module": ["-m", "package.program", "--flag", "1"],
        "code": ["-c", program, "--flag", "1"],
    }[how]
    if how == "code" and ending == SPAWNS:
        pytest.skip("what is spawned could not find the function")
    assert same(warm(words), cold(words))


def test_stderr_may_go_to_stdout(cold, warm):
    words = ["-c", "import sys; print(1, flush=True); print(2, file=sys.stderr); print(3)"]
    assert warm(words, stderr=subprocess.STDOUT).stdout == "1\n2\n3\n"
    assert same(
        warm(words, stderr=subprocess.STDOUT),
        subprocess.CompletedProcess([], 0, cold(words, stderr=subprocess.STDOUT).stdout, ""),
    )


STARTS = """
import json, multiprocessing, os, signal, subprocess, sys
from concurrent.futures import ProcessPoolExecutor

def run(*words, **options):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)
    print(done.returncode, done.stdout, done.stderr.replace(sys.executable, "python"))

def square(number):
    return number * number, __name__, multiprocessing.parent_process() is not None

if __name__ == "__main__":
    run("-c", "import os, sys; print(sys.argv, os.getcwd(), sys.stdin.read())", "-x", input="in")
    run("-u", "-c", "import os; print(os.environ['ONE_MORE'])", env={**os.environ, "ONE_MORE": "2"})
    run("-m", "no_such_module")
    run("-c", "raise SystemExit(7)")
    run("-c", "import os; os.kill(os.getpid(), 9)")
    run("-O", "-c", "print(__debug__)")  # by Python itself
    reader, writer = os.pipe()
    run("-c", f"import os; os.write({writer}, b'through a pipe')", pass_fds=[writer])
    print(os.read(reader, 99))
    waits = "import time; print('waits', flush=True); time.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)
    started.stdout.readline()
    started.terminate()
    print(started.wait(30))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        print(list(pool.map(square, range(3))))
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'])"
    run("-c", nested)
"""


def test_what_a_program_starts_is_the_same_too(cold, warm, tmp_path):
    (tmp_path / "starts.py").write_text(STARTS)
    assert same(warm(["starts.py"], warm_children=True), cold(["starts.py"]))


IMPORTED = """
import multiprocessing, subprocess, sys
code = "import sys; print('torch' in sys.modules, flush=True)"
if __name__ == "__main__":
    subprocess.run([sys.executable, "-u", "-c", code])
    one = multiprocessing.get_context("spawn").Process(target=exec, args=(code,))
    one.start(), one.join()
"""


def test_what_a_program_starts_has_imported_torch_if_that_was_asked_for(warm, tmp_path):
    (tmp_path / "starts.py").write_text(IMPORTED)
    assert warm(["starts.py"], warm_children=True).stdout == "True\nTrue\n"
    assert warm(["starts.py"]).stdout == "False\nFalse\n"


def test_torch_is_imported_and_every_program_draws_its_own_numbers(python):
    code = "import numpy, random, sys; print('torch' in sys.modules); import torch; "
    code += "print(torch.rand(1).item()); print(numpy.random.rand()); print(random.random())"
    one, other = (python.run(["-c", code]).stdout.splitlines() for _ in range(2))
    assert one[0] == "True"
    assert not {*one[1:]} & {*other[1:]}


def test_programs_run_beside_each_other_and_end_in_time(python):
    words = ["-c", "import time; time.sleep(0.5)"]
    before = time.monotonic()
    for running in [python.start(words) for _ in range(3)]:
        assert running.wait().returncode == 0
    assert time.monotonic() - before < 1.4
    with pytest.raises(subprocess.TimeoutExpired):
        python.run(["-c", "import time; time.sleep(60)"], timeout=0.1)


def test_another_module_is_imported_for_those_who_want_it(python):
    words = ["-c", "import sys; print([m in sys.modules for m in ('torch', 'wave')])"]
    assert python.having("wave").run(words).stdout == "[True, True]\n"
    assert python.having("wave") is python.having("wave")
    assert python.run(words).stdout == "[True, False]\n"


def test_a_module_that_cannot_be_imported_ends_the_server(python):
    with pytest.raises((RuntimeError, BrokenPipeError, ConnectionResetError)):
        python.having("no_such_module").run(["-c", ""])


def test_the_server_ends_with_the_tests():
    python = WarmPython()
    assert python.having("wave").run(["-c", ""]).returncode == 0
    assert python._server.poll() is None
    python.close()
    assert python._server.returncode == 0
