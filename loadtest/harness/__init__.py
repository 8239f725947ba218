"""The load tests: what is run (scenarios, proxies, peers), how it is run (rounds, processes, measure, the clients) and what is told (record, report, plot)."""
