"""`/metrics` of real processes under a small load: what it counts, who may read it, and whoever relies on its names."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as families

from restante.observing.kinds import Counter, Histogram, Metric, Total
from restante.observing.metrics import BY_DATABASE, METRICS
from restante.web.wire import FAMILY
from tests.operation.promql import names
from tests.support import OPERATOR, Http, Restante, running, task
from tests.webhooks.receiver import receiving

ROOT: Final = Path(__file__).parents[2]
TOKEN: Final = "kx7-token-of-the-metrics"
ALERTS: Final = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD: Final = ROOT / "deploy/grafana/restante.json"
OF_PROMETHEUS: Final = {"job", "instance"}  # labels that it adds itself
OTHERS: Final = {"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"}

#: A second provider, which has keys and is never called.
MODELS: Final = """
[servers.near]
url = "http://127.0.0.1:9/v1"
lists_models = false
[models.near-model]
server = "near"
"""

WAITING: Final = "restante_webhooks_waiting"

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]  # name -> labels -> value


class Told(NamedTuple):
    """A restante after the load, and what its processes told then."""

    restante: Restante
    workers: tuple[str, str]  # their URLs
    api: Samples
    of_workers: tuple[Samples, Samples]

    def sum(self, name: str, **labels: str) -> float:
        """Over the workers that have it."""
        having = [one for one in self.of_workers if name in one]
        assert having, name
        return sum(value_of(one, name, **labels) for one in having)


def value_of(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    assert name in samples, name
    return sum(value for of, value in samples[name].items() if labels.items() <= dict(of).items())


async def scrape(url: str, **headers: str) -> tuple[int, str, str]:
    """Status, media type and text of /metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics", headers=headers) as response:
        return response.status, response.headers.get("Content-Type", ""), await response.text()


async def samples(url: str) -> Samples:
    status, _, text = await scrape(url, Authorization=f"Bearer {TOKEN}")
    assert status == 200, text
    found: Samples = {}
    for family in families(text):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def two_ports() -> int:
    """A free port whose next one is free, too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


async def load(restante: Restante) -> list[str]:
    """Tasks of every fate, and both kinds of webhook, one of which is refused; their ids."""
    async with (
        receiving() as good,
        receiving(lambda receiver: setattr(receiver, "status", 500)) as bad,
        Http(restante.family) as http,
    ):
        posted = await http.post(
            [
                task("one [[cost=0.02]] [[tokens_in=120]]", pingback_url=f"{good.url}/$id"),
                task("two", postback_url=f"{bad.url}/$id"),
                task("three [[fail=a reason]]"),
                task("four [[fail=overloaded]] [[fail_times=1]]"),
                task("five", no_such_field=1),
            ]
        )
        ids = [entry["id"] for entry in posted["tasks"] if entry["status_code"] == 20100]
        assert len(ids) == 4
        await http.answers(ids)
        await http.post([task("six")], "live")
        await http.post([task("seven [[fail=a reason]]")], "live")
        await http.get("tasks_ready")
        async with asyncio.timeout(20):
            while not (good.hits and bad.hits):
                await asyncio.sleep(0.02)  # each side is a process of its own
    async with Http(restante.family, None) as stranger:
        assert (await stranger.send("GET", "tasks_ready"))[0] == 401
    return ids


async def tell(restante: Restante, workers: tuple[str, str]) -> Told:
    """Load, and scrape until what the workers do at last is in it."""
    await load(restante)
    audited = await asyncio.to_thread(restante.run, "ledger", "audit")
    assert audited.returncode == 0, audited.stderr
    async with asyncio.timeout(60):
        while True:
            first, second, api = await asyncio.gather(*(samples(url) for url in (*workers, restante.url)))
            told = Told(restante, workers, api, (first, second))
            # The refused webhook may have gone out again by then, after five seconds.
            done = told.sum("restante_webhook_attempts_total") >= 2 and value_of(api, WAITING, state="retry") == 1
            if done and value_of(api, "restante_workers") == 2 and "restante_audit_differences" in api:
                return told
            await asyncio.sleep(0.2)  # the database's figures are some seconds old


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    port, directory = two_ports(), tmp_path_factory.mktemp("metrics")
    (directory / "models.toml").write_text(MODELS)
    with running(
        directory, "--provider", "scripted", "--workers", "2", METRICS_TOKEN=TOKEN, METRICS_LISTEN=f"127.0.0.1:{port}",
        WEBHOOK_ALLOW="127.0.0.1", LOG_FORMAT="json", MODELS=str(directory / "models.toml"),
    ) as restante:  # fmt: skip
        workers = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
        for at in workers:
            restante.process.wait_for(f"metrics and health of this worker are at {at}", log=True)
        yield asyncio.run(tell(restante, workers))


def test_what_the_api_counts(told: Told) -> None:
    api = told.api
    assert value_of(api, "restante_tasks_accepted_total", provider="scripted") == 4
    assert value_of(api, "restante_tasks_refused_total", code="40506") == 1
    assert value_of(api, "restante_accept_seconds_count") == 1
    assert value_of(api, "restante_live_tasks_total", code="20000") == 1
    assert value_of(api, "restante_live_tasks_total", code="50301") == 1
    assert value_of(api, "restante_live_seconds_count") == 2
    assert value_of(api, "restante_http_requests_total", endpoint="task_post", status="200") == 1
    assert value_of(api, "restante_http_requests_total", endpoint="task_get", status="200") >= 4
    assert value_of(api, "restante_http_request_seconds_count", endpoint="tasks_ready") == 1
    assert value_of(api, "restante_http_turned_away_total", why="credentials") == 1
    assert value_of(api, "restante_build_info", role="api") == 1
    assert 1 <= value_of(api, "restante_database_connections") <= value_of(api, "restante_database_connections_max")
    assert value_of(api, "restante_disk_free_bytes") > value_of(api, "restante_disk_reserve_bytes") > 0
    assert value_of(api, "restante_disk_short") == 0
    assert value_of(api, "restante_provider_keys", provider="near", state="good") == 1


def test_what_the_workers_count(told: Told) -> None:
    """Whichever of them had the tasks."""
    calls = "restante_provider_calls_total"
    assert told.sum(calls, outcome="answered") == 3
    overloaded = told.sum(calls, outcome="overloaded")  # once in each process that had the task
    assert overloaded in (1, 2) and told.sum(calls, outcome="refused") == 1
    assert told.sum("restante_provider_call_seconds_count", provider="scripted") == 4 + overloaded
    assert told.sum("restante_provider_tokens_total", kind="input") >= 120
    assert told.sum("restante_provider_cost_dollars_total") == pytest.approx(0.02)
    assert told.sum("restante_tasks_settled_total", code="20000") == 3
    assert told.sum("restante_tasks_settled_total", code="50301") == 1
    assert told.sum("restante_charged_dollars_total") == pytest.approx(3 * 0.0002 + 0.02)
    assert told.sum("restante_task_wait_seconds_count") == told.sum("restante_task_seconds_count") == 4
    assert told.sum("restante_webhook_attempts_total", kind="pingback", outcome="delivered") == 1
    assert told.sum("restante_webhook_attempts_total", kind="postback", outcome="http_5xx") == 1
    assert told.sum("restante_webhook_seconds_count") >= 2
    assert told.sum("restante_worker_slots", state="free") == 1_000


def test_what_the_database_says(told: Told) -> None:
    api = told.api
    assert value_of(api, "restante_database_up") == 1
    assert value_of(api, "restante_workers") == value_of(api, "restante_workers_serving", provider="scripted") == 2
    for none in ("queue_ready_tasks", "queue_parked_tasks", "queue_running_tasks", "queue_oldest_seconds"):
        assert value_of(api, f"restante_{none}") == 0, none
    assert value_of(api, WAITING, state="retry") == 1
    assert value_of(api, "restante_webhook_hosts_failing") == 1
    assert value_of(api, "restante_audit_differences") == 0 <= value_of(api, "restante_audit_age_seconds") < 60
    # Three answers by task_post, one live; what was held has returned.
    assert value_of(api, "restante_spent_dollars_total") == pytest.approx(3 * 0.0002 + 0.02 + 0.0006)
    assert value_of(api, "restante_balance_dollars") == pytest.approx(100 - 3 * 0.0002 - 0.02 - 0.0006)
    assert value_of(api, "restante_held_dollars") == 0


def _sample_names(metric: Metric) -> set[str]:
    if isinstance(metric, Histogram):
        return {f"{metric.name}{part}" for part in ("_bucket", "_count", "_sum")}
    return {metric.name}


def _shown(found: Samples) -> set[str]:
    return {name for name in found if name.startswith("restante_") and not name.endswith("_created")}


def test_every_metric_is_told_by_the_processes_that_should(told: Told) -> None:
    """And no other: what is not in the registry is not in the reference either."""
    for role, found in (("api", told.api), ("worker", told.of_workers[0]), ("worker", told.of_workers[1])):
        wanted = {one for metric in METRICS if getattr(metric, role) for one in _sample_names(metric)}
        labelled = {one for metric in METRICS if metric.labels for one in _sample_names(metric)}
        assert _shown(found) <= wanted
        # A series with labels is there from its first event on; all others always are.
        assert wanted - _shown(found) <= labelled
    assert _shown(told.api) | _shown(told.of_workers[0]) | _shown(told.of_workers[1]) == {
        one for metric in METRICS for one in _sample_names(metric)
    }


def test_names_are_as_prometheus_wants_them() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"restante_[a-z_]+", metric.name)
        assert (metric.name.endswith("_total")) == isinstance(metric, Counter | Total), metric.name
        assert not isinstance(metric, Histogram) or metric.name.endswith("_seconds")
        assert metric.help.endswith("."), metric.name
        assert not {"url", "host", "account", "login", "tag", "task", "id"} & set(metric.labels)


async def test_both_formats_can_be_read(told: Told) -> None:
    for accept, read in (("text/plain;version=0.0.4", families), ("application/openmetrics-text", open_metrics)):
        status, media_type, text = await scrape(told.restante.url, Authorization=f"Bearer {TOKEN}", Accept=accept)
        assert status == 200 and media_type.startswith(accept.split(";")[0])
        assert {family.name for family in read(text)} >= {"restante_workers", "restante_accept_seconds"}


async def test_strangers_and_customers_read_nothing(told: Told) -> None:
    customer = told.restante.account("metrics-customer@example.org")
    for url in (told.restante.url, *told.workers):
        for proof in (None, f"Bearer {TOKEN}x", "Bearer ", TOKEN, aiohttp.encode_basic_auth(*customer)):
            status, _, text = await scrape(url, **({} if proof is None else {"Authorization": proof}))
            assert (status, text) == (401, ""), proof
        for proof in (f"Bearer {TOKEN}", f"bearer {TOKEN}", aiohttp.encode_basic_auth(*OPERATOR)):
            assert (await scrape(url, Authorization=proof))[0] == 200, proof


async def test_the_token_opens_nothing_else(told: Told) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        for path in (f"{FAMILY}/tasks_ready", "/v3/appendix/user_data", "/restante/v1/account/pause"):
            async with session.get(told.restante.url + path) as response:
                assert response.status == 401


async def test_workers_tell_their_health(told: Told) -> None:
    async with aiohttp.ClientSession() as session:
        for url in told.workers:
            for path in ("/healthz", "/readyz"):
                async with session.get(url + path) as response:
                    assert (response.status, await response.json()) == (200, {"ok": True})


def test_no_label_holds_what_clients_send(told: Told) -> None:
    for found in (told.api, *told.of_workers):
        values = {value for samples in found.values() for labels in samples for _, value in labels}
        assert values and not [one for one in values if re.search(r"127\.0\.0\.1|operator|-0613-", one)]


# --- who relies on these names -------------------------------------------------------------------------


def alerts() -> dict[str, str]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def panels() -> dict[str, str]:
    """Expressions of the dashboard by what shows them."""
    dashboard = json.loads(DASHBOARD.read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    } | {
        f"variable {one['name']}": found[1]
        for one in dashboard["templating"]["list"]
        if (found := re.search(r"label_values\((\w+)", str(one["query"])))
    }


EXPRESSIONS: Final = alerts() | panels()


def _labels(told: Told, name: str) -> Mapping[str, set[str]]:
    """The labels of a metric as they were seen, and their values."""
    seen: dict[str, set[str]] = {}
    for found in (told.api, *told.of_workers):
        for labels in found.get(name, {}):
            for label, value in labels:
                seen.setdefault(label, set()).add(value)
    return seen


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_what_alerts_and_dashboard_name_is_there(told: Told, what: str) -> None:
    """Each metric was told by the real processes, with each label; values asked for were seen or are documented."""
    found = names(EXPRESSIONS[what])
    assert found.metrics
    every: set[str] = set(OF_PROMETHEUS)
    for name, matched in found.metrics.items():
        if name in OTHERS:
            continue
        metric = next((one for one in METRICS if name in _sample_names(one)), None)
        assert metric is not None, f"{name} is no metric"
        labels = _labels(told, name)
        every |= {*metric.labels, *labels}
        assert set(labels) - {"le"} == set(metric.labels), f"{name} was told with {set(labels)}"
        for label, value in matched.items():
            assert label in {*metric.labels, *OF_PROMETHEUS}, f"{name} has no label {label}"
            known = value in labels.get(label, ()) or f"`{value}`" in metric.help or label in ("code", "status")
            assert known or value.startswith("$") or not value, f"{name}: {label} is never {value!r}"
    assert found.grouped <= every


def test_every_metric_of_the_database_is_watched() -> None:
    """What only the API can tell is in the dashboard or an alert."""
    named = {name for one in EXPRESSIONS.values() for name in names(one).metrics}
    assert {one.name for one in BY_DATABASE} <= named


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_says_what_to_do(alert: str) -> None:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    [rule] = [one for one in group["rules"] if one["alert"] == alert]
    assert set(rule["annotations"]) == {"summary", "action"} and rule["labels"]["severity"] in ("page", "ticket")
    assert f"`{alert}`" in (ROOT / "docs/observability.md").read_text()


def test_promtool_is_content() -> None:
    """Prometheus' own tool: the rules can be read, and fire when they should (deploy/prometheus/alerts_test.yml)."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed here; the names are tested in any case")
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(ALERTS.with_name("alerts_test.yml"))]):
        done = subprocess.run([tool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_read_out_of_expressions() -> None:
    """The reader itself: what it overlooks is not tested."""
    found = names('sum by (a) (rate(x_total{b="c", d=~"5.."}[5m])) / on (e) group_left () max(y) > 3 or vector(0)')
    assert found.metrics == {"x_total": {"b": "c", "d": ""}, "y": {}} and found.grouped == {"a", "e"}


async def lines_of(restante: Restante) -> AsyncIterator[dict[str, Any]]:
    for line in restante.process.log.splitlines():
        yield json.loads(line)


async def test_the_log_is_json_from_every_process(told: Told) -> None:
    lines = [line async for line in lines_of(told.restante)]
    assert {"restante.api", "restante.worker", "restante.deliver"} <= {line["logger"] for line in lines}
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys() <= {
            "time", "level", "logger", "message", "task", "account", "exception",
        }, line  # fmt: skip
    [failed] = [line for line in lines if "HTTP 500" in line["message"]]
    assert re.fullmatch(r"[0-9]{8}-0001-0613-0000-[0-9a-f]{12}", failed["task"]) and failed["account"] == 1
