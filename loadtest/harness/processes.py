"""Every process the load tests start: its birth, what it consumes, and its certain end.

Each child gets a process group of its own and is ended through it; nothing else on the host is ever signalled.
"""

import ctypes
import os
import resource
import signal
import subprocess
import time

DESCRIPTORS = 20_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Something that stops the load test, said in one line for the person who started it."""


def raise_descriptor_limit():
    """Children inherit it. Never lowers a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _die_with_parent():
    # For the case no handler sees: the driver itself killed with KILL.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Processes:
    """A context manager: when the block is left, however it is left, the children are gone."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        try:
            for child in list(self.children):
                _signal(child, signal.SIGTERM)
            for child in list(self.children):
                self.stop(child)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            stop_on_signals()

    def start(self, command, log_path, core, env=None):
        """Starts `command` pinned to `core`; both its outputs go to `log_path`."""
        with open(log_path, "wb") as log:
            child = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                env=env,
            )
        self.children.append(child)
        return child

    def run(self, command, log_path, core, seconds_max, env=None):
        """Runs a command to its end, within a bound, and returns what it printed."""
        child = self.start(command, log_path, core, env)
        try:
            child.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise Failed(f"{command[0]} did not end within {seconds_max} s") from None
        finally:
            self.stop(child)
        output = read(log_path)
        if child.returncode != 0:
            raise Failed(f"{command[0]} ended with {child.returncode}: {output.strip()[-400:]}")
        return output

    def stop(self, child):
        """TERM, again TERM (which cuts a graceful shutdown short), KILL."""
        for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            if child.poll() is not None:
                break
            _signal(child, number)
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        # The leader is gone; a worker of its group that outlived it goes too.
        _signal(child, signal.SIGKILL)
        if child in self.children:
            self.children.remove(child)


def _signal(child, number):
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass


def stop_on_signals():
    """Turns a polite request to end into an exception, so that the children are ended on the way out."""

    def leave(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def wait_until(condition, child, what, seconds=10.0):
    """Polls until `condition()` is true; the child's early end is an error."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if child.poll() is not None:
            raise Failed(f"{what} ended with {child.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise Failed(f"{what} was not ready after {seconds:.0f} s")
        time.sleep(0.02)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def family(pid):
    """`pid` and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = read(f"/proc/{entry}/stat").rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    members, queue = [], [pid]
    while queue:
        member = queue.pop()
        members.append(member)
        queue.extend(parents.get(member, []))
    return members


def tasks(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []


def cpu_ns(pids):
    """Time on a CPU of all threads, kernel worker threads of the process included; a thread that has ended is lost."""
    total = 0
    for pid in pids:
        for task in tasks(pid):
            try:
                total += int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total


def thread_count(pids):
    return sum(len(tasks(pid)) for pid in pids)


def memory(pids):
    """Of the processes: RSS, and PSS with shared pages divided among those that share them. Kernel socket memory is in neither."""
    total = {"pss_bytes": 0, "rss_bytes": 0}
    for pid in pids:
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            name = line.split(":", 1)[0].lower() + "_bytes"
            if name in total:
                total[name] += int(line.split()[1]) * 1024
    return total


def softirq_thread(core):
    """The pid of ksoftirqd on a core: when it works, network processing has left the account of the processes."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if read(f"/proc/{entry}/comm").strip() == f"ksoftirqd/{core}":
                    return int(entry)
            except OSError:
                continue
    return None


def steal_ticks():
    """Time the hypervisor gave to somebody else, all cores, in clock ticks."""
    return int(read("/proc/stat").splitlines()[0].split()[8])
