#!/usr/bin/env python3
"""Has promtool, a Prometheus and `examples/observed` read what `docs/observing` has for them.

- promtool checks the alerts, and runs their tests.
- Prometheus scrapes the example, which makes trouble of every kind. Each query of each panel, and
  the variable of the dashboard, must have a value, and each alert must be evaluated.

    .ci/observing.py EXAMPLE    the program, which is started with --stay

Prometheus listens on a port of loopback, and keeps its data in a folder that is removed. Both programs
are stopped by their process ID. Needs Python 3, `prometheus` and `promtool`.
"""

import json
import math
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

FILES = Path(__file__).resolve().parent.parent / "docs" / "observing"

# A query has as many seconds to get a value.
PATIENCE = 90
# Scrapes are 1 s apart. Grafana takes 4 of them at least.
INTERVAL = "10s"

CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files:
  - {rules}
scrape_configs:
  - job_name: observed
    static_configs:
      - targets: ['{target}']
"""


class Wrong(Exception):
    """A sentence for the last line."""


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run("promtool", "check", "rules", FILES / "rules.yml")
    run("promtool", "test", "rules", FILES / "rules_test.yml")
    started = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(sys.argv[1], Path(folder), started)
            finally:
                stop(started)
    except Wrong as wrong:
        sys.exit(f"observing: {wrong}")


def run(*command):
    command = [str(word) for word in command]
    print("$", *command, flush=True)
    subprocess.run(command, check=True, timeout=60)


def stop(started):
    """The last one first, as it reads the others."""
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check(example, folder, started):
    observed = subprocess.Popen(
        [example, "--stay"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    started.append(observed)
    target = None
    for line in observed.stdout:
        print("observed:", line, end="", flush=True)
        if line.startswith("metrics: http://"):
            target = line.split("/")[2]
        if line.startswith("connections that are open:"):
            break
    else:
        raise Wrong(f"the example ended with {observed.wait()}")

    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=FILES / "rules.yml", target=target))
    with open(folder / "log", "w") as log:
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    started.append(prometheus)
    server = Server(port)

    def is_running():
        for process, name in (observed, "the example"), (prometheus, "prometheus"):
            if process.poll() is not None:
                raise Wrong(f"{name} ended with {process.returncode}\n{(folder / 'log').read_text()}")

    server.until("scrapes", f"count_over_time(up[{INTERVAL}]) >= 5 and up == 1", is_running)
    queries = list(queries_of_dashboard())
    for panel, query in queries:
        values = server.until(panel, query, is_running)
        print(f"{panel}: {values} series", flush=True)
    check_variable(server)
    check_alerts(server, is_running)
    print(f"{len(queries)} queries of the dashboard have values", flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """Prometheus, by its HTTP interface."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path, **parameters):
        url = self.base + path + "?" + urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # It starts.
                return None
            raise Wrong(f"{parameters}: {error.read().decode()}") from None
        except (ConnectionError, urllib.error.URLError):
            return None

    def values(self, query):
        """How many series of the result have a number."""
        data = self.get("query", query=query)
        results = data["result"] if data else []
        return sum(math.isfinite(float(one["value"][1])) for one in results)

    def until(self, what, query, is_running):
        """Waits until the query has a value."""
        end = time.monotonic() + PATIENCE
        while True:
            is_running()
            values = self.values(query)
            if values:
                return values
            if time.monotonic() > end:
                raise Wrong(f"{what}: no value after {PATIENCE} s: {query}")
            time.sleep(0.5)


def dashboard():
    return json.loads((FILES / "grafana.json").read_text())


def queries_of_dashboard():
    """As Grafana fills in its variables if all targets are chosen."""
    everything = next(
        one["allValue"] for one in dashboard()["templating"]["list"] if one["name"] == "target"
    )
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", INTERVAL)
            query = query.replace("$target", everything)
            if "$" in query:
                raise Wrong(f"{panel['title']}: another variable: {query}")
            yield f"{panel['title']}, {target['refId']}", query


def check_variable(server):
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] != "query":
            continue
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
        values = server.get(f"label/{label}/values", **{"match[]": metric})
        print(f"variable {variable['name']}: {', '.join(values)}", flush=True)
        if "channel:///shop" not in values:
            raise Wrong(f"the variable {variable['name']} does not know the example")


def check_alerts(server, is_running):
    end = time.monotonic() + PATIENCE
    while True:
        is_running()
        groups = server.get("rules", type="alert")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        unknown = [rule["name"] for rule in rules if rule["health"] == "unknown"]
        failed = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] == "err"]
        if failed:
            raise Wrong("\n".join(failed))
        if rules and not unknown:
            break
        if time.monotonic() > end:
            raise Wrong(f"not evaluated: {unknown}")
        time.sleep(0.5)
    pending = sorted({alert["labels"]["alertname"] for rule in rules for alert in rule["alerts"]})
    print(f"{len(rules)} alerts are evaluated; pending or firing: {', '.join(pending)}", flush=True)


if __name__ == "__main__":
    main()
