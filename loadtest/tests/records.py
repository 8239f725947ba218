"""Records of runs that never took place, for the tests of what is made of records."""

from harness import report


def record(samples, **others):
    """A record of the load kind unless `others` say more; its summary is made as that of a real one."""
    made = {
        "scenario": "small-64",
        "about": "GET, <128>-byte answer & more",
        "figure": "cpu_us",
        "idle": False,
        "failure": False,
        "per": "request",
        "subject": "ringway",
        "rounds": max(sample["round"] for sample in samples),
        "seconds": 3,
        "run": "loadtest/run small-64",
        "date": "2026-01-01 00:00 UTC",
        "kernel": "6.1",
        "cpu": "a processor, 2 cores",
        "commit": "0123456789abcdef",
        "versions": {"ringway": "ringway 0.1"},
        "samples": samples,
        **others,
    }
    return {**made, "summary": report.summarise(made)}


def load_sample(number, proxy, cpu_us, **others):
    return {
        "round": number,
        "proxy": proxy,
        "cpu_us": cpu_us,
        "rate": 1000.0,
        "p50_us": 40.0,
        "p99_us": 90.0,
        "p999_us": 200.0,
        "threads": 2,
        "pss_bytes": 1 << 20,
        "rss_bytes": 2 << 20,
        "errors": {},
        **others,
    }


def load():
    samples = [load_sample(1, "ringway", 10.0), load_sample(1, "haproxy", 20.0)]
    samples += [load_sample(2, "haproxy", 24.0, errors={"status": 2}), load_sample(2, "ringway", 16.0)]
    return record([*samples, load_sample(3, "ringway", 11.0), load_sample(3, "haproxy", 20.0)])


def latency():
    samples = [load_sample(1, "ringway", 10.0, p99_us=100.0, late_p99_us=30.0), load_sample(1, "haproxy", 20.0, p99_us=125.0)]
    # Without a proxy nobody's CPU is counted.
    samples.append(load_sample(1, "direct", None, p99_us=50.0, p999_us=12_000_000.0))
    return record(samples, scenario="latency-20k", figure="p99_us")


def failures():
    def sample(proxy, gets, posts, twice, **others):
        kinds = {"get_errors": gets, "post_errors": posts, "posts_twice": twice}
        times = dict.fromkeys(("p99_before_ms", "p99_after_ms", "worst_ms", "recovery_ms"), 5.0)
        return {"round": 1, "proxy": proxy, "requests": 1000, **kinds, **times, **others, "errors": {}}

    ours = sample("ringway", 0, 0, 0, pss_bytes=1 << 20, rss_bytes=3 << 20, threads=3)
    return record([ours, sample("nginx", 1, 2, 3)], scenario="failures-kill", figure="recovery_ms", failure=True)


def idle():
    def sample(proxy, size):
        return load_sample(1, proxy, None, connection_bytes=size, open_cpu_us=90.0, idle_cpu_ms_per_s=0.0)

    samples = [sample("ringway", 600.0), sample("envoy", 16_000.0)]
    return record(samples, scenario="idle-8000", figure="connection_bytes", idle=True)


def slow():
    samples = [load_sample(1, "ringway", 60.0, reader_bytes=3000.0), load_sample(1, "envoy", 100.0, reader_bytes=30_000.0)]
    return record(samples, scenario="slow-readers")


ALL = (load, latency, failures, idle, slow)
