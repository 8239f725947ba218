"""The load tests: what is run (scenarios, proxies), how it is run (processes, wrk, client, idle) and what is told (report)."""
