"""The benchmarks behind the figures in docs/.

bench.py        compares the service with other servers and with an earlier commit: docs/performance.md
lists.py        compares the cost of lists in small and large databases: docs/lists.md
docs_page.py    measures the documentation page: docs/decisions/0052-rapidoc-for-the-documentation-page.md
concurrency.py  compares numbers of processes, threads and connections: docs/operating.md
failover.py     fails over from a primary of PostgreSQL to its standby under load: docs/reliability.md
"""
