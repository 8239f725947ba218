"""What a proxy consumes while a client runs against it."""

from . import processes


class Account:
    """Opened before the client starts, closed when it has ended."""

    def __init__(self, host, proxy):
        self.host, self.proxy = host, proxy
        self.softirq = [host.softirq] if host.softirq else []
        self.upstream = host.origin_stats()["connections"]
        pids = proxy.pids()
        self.steal, self.soft = processes.steal_ticks(), processes.cpu_ns(self.softirq)
        self.cpu = processes.cpu_ns(pids)

    def close(self):
        """The part of a sample that is the same whoever the client was."""
        # Asked for again: a process born during the run counts too.
        pids = self.proxy.pids()
        cpu = processes.cpu_ns(pids) - self.cpu
        soft, steal = processes.cpu_ns(self.softirq) - self.soft, processes.steal_ticks() - self.steal
        return {
            "cpu_total_us": cpu / 1e3,
            "softirq_thread_us": soft / 1e3,
            "steal_ticks": steal,
            "upstream_connections": self.host.origin_stats()["connections"] - self.upstream,
            "threads": processes.thread_count(pids),
            **processes.memory(pids),
        }


def cpu_per_unit(account, units):
    # Less than before: a process has died and taken its account along.
    return account["cpu_total_us"] / units if units and account["cpu_total_us"] > 0 else None
