#!/usr/bin/python3
"""docs/monitoring.md: its configuration, alert rules and board, in a real Prometheus that scrapes a running server; and each
rule on numbers that must fire it and that must not."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, http, tap, wait_until                             # noqa: E402
from rooms.approvals import LOCATIONS, OPTIONS, act, approvals_host, create, migrate, new_session    # noqa: E402
from rooms.nginx import Nginx, free_port                                  # noqa: E402
from rooms.page import open_page                                          # noqa: E402
from rooms.postgres import Postgres                                       # noqa: E402
from rooms.prometheus import Prometheus                                   # noqa: E402
from rooms.redis import Redis                                             # noqa: E402

SECRET = "0123456789abcdef0123456789abcdef"


def read(name):
    with open(os.path.join(ROOT, "docs", name), encoding="utf-8") as file:
        return file.read()


PAGE = read("monitoring.md")
RULES = read("monitoring/alerts.yml")
BOARD = json.loads(read("monitoring/rooms.json"))
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.M)


def block(kind, *swaps):
    """The one block of the page that is of this kind, with what belongs to a test's place in it."""
    found = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", PAGE, re.M | re.S)
    assert len(found) == 1, f"{len(found)} blocks of {kind} in docs/monitoring.md"
    text = found[0]
    for old, new in swaps:
        assert text.count(old) == 1, f"{old} is in {text} {text.count(old)} times"
        text = text.replace(old, new)
    return text


def promtool(*arguments, text=None):
    return subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)


# --- a server with all that can be counted, one that wants a secret, and none

redis, pg = Redis(appendfsync=None), Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
server = approvals_host(pg, locations=LOCATIONS.replace("location = /status  { rooms_status; }", block("nginx here")),
                        http=f"rooms_redis {redis.url};", name="with all")
guarded = Nginx(block("nginx elsewhere", ("/etc/nginx/status.secret", "@DIR@/status")), files={"status": SECRET + "\n"},
                name="with a secret")
HERE, THERE, NOWHERE = (f"127.0.0.1:{port}" for port in (server.port, guarded.port, free_port()))
prometheus = Prometheus(
    "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n" + block(
        "yaml prometheus.yml", ("/etc/prometheus/rooms.secret", "@DIR@/rooms.secret"),
        ("/etc/prometheus/rooms-alerts.yml", "@DIR@/rooms-alerts.yml"),
        ("scrape_interval: 15s", "scrape_interval: 500ms"), ("['127.0.0.1:8080']", f"['{HERE}', '{THERE}', '{NOWHERE}']")),
    {"rooms.secret": SECRET + "\n", "rooms-alerts.yml": RULES})


def metrics():
    return http.get(server, "/status?format=prometheus").text


def busy():
    """Of everything a little, so that nothing stays 0 by which the board divides, or which it leaves out."""
    with open_page(server, "session:1") as page:
        http.publish(server, {"room": "session:1", "type": "x"})
        page.expect(type="x")
        page.send_json(type="nope")
        page.expect(type="error")
        page.close()
    of = new_session(sql)
    act(server, create(server, of)["id"], "resolve", status="approved", resolvedBy="ann")
    create(server, of, timeout=0.02)


# --- the rules by themselves

HOST = 'job="rooms",instance="a"'


def series(**values):
    """{name or name{label="value"}: values in promtool's notation} of one host."""
    return [{"series": name.replace("{", "{" + HOST + ",") if "{" in name else f"{name}{{{HOST}}}", "values": text}
            for name, text in values.items()]


def deaf(first, second):
    return {'rooms_worker_deaf{pid="1"}': f"{first}x80", 'rooms_worker_deaf{pid="2"}': f"{second}x80",
            "rooms_redis_workers_hearing": f"{2 - first - second}x80"}


def asks(first, second):
    return {'rooms_worker_refused{pid="1"}': first, 'rooms_worker_refused{pid="2"}': second}


def late(ms, values="0+1x80"):
    """Timeouts, one in 15 seconds, all told in this time."""
    buckets = {'rooms_approval_lateness_milliseconds_bucket{le="%s"}' % bound: values if ms <= float(bound) else "0x80"
               for bound in ("10", "25", "50", "100", "250", "500", "1000", "5000", "30000", "+Inf")}
    return {**buckets, "rooms_approval_lateness_milliseconds_count": values}


def closed(code, each):
    return {'rooms_connections_closed_total{code="%d"}' % code: f"0+{each}x80"}


def refused(reason, values):
    return {'rooms_errors_total{reason="%s"}' % reason: values}


def zone(part, used):
    parts = {"rooms_zone_rooms_max": "100x80", "rooms_active": "1x80", "rooms_zone_rooms": "100x80"}
    for name in ("ids", "users", "tallies", "slots"):
        parts |= {f"rooms_zone_{name}": "1x80", f"rooms_zone_{name}_max": "100x80"}
    return {**parts, part: f"{used}x80"}


def ring(seconds, used):
    return {"rooms_zone_ring_seconds": f"{seconds}x80", "rooms_zone_ring_used_bytes": f"{used}x80",
            "rooms_zone_ring_size_bytes": "1000x80"}


ONCE = "0x32 1x40"  # less than two minutes before the alerts are looked at

# Each alert: numbers that fire it and no other, and what does not, as (numbers, what fires instead).
CASES = {
    "RoomsDown": ({"up": "0x80"}, [({"up": "1x80"}, None), ({"up": "1 0x3 1x80"}, None), ({"up": "1x8 _x80"}, "RoomsDown")]),
    "RoomsWorkerDeaf": (deaf(1, 0), [(deaf(0, 0), None), (deaf(1, 1), "RoomsRedisDown")]),
    "RoomsRedisDown": (deaf(1, 1), [(deaf(0, 0), None), ({"rooms_redis_workers_hearing": "2 0 2x80"}, None)]),
    "RoomsRedisRefuses": (asks("1x80", "1x80"), [(asks("0x80", "0x80"), None), (asks("0x80", "1x80"), "RoomsRedisRefuses"),
                                                 (asks("0x39 1x40", "0x80"), None)]),
    "RoomsPostgresDown": ({"rooms_postgres_up": "0x80"}, [
        ({"rooms_postgres_up": "1x80"}, None), ({"rooms_postgres_up": "1x37 0 1x40"}, None),
        ({"rooms_postgres_up": "1 0 " * 40}, "RoomsPostgresDown"), ({"rooms_postgres_up": "1 1 0 " * 27}, "RoomsPostgresDown")]),
    "RoomsPublishRefused": (refused("publish_unavailable", "0+1x80"), [
        (refused("publish_unavailable", "9x80"), None), (refused("publish_unavailable", ONCE), None),
        (refused("publish_bad", "0+9x80"), None)]),
    "RoomsApprovalsRefused": (refused("approval_unavailable", "0+1x80"), [
        (refused("approval_bad", "0+9x80"), None), (refused("approval_unavailable", ONCE), None)]),
    "RoomsApprovalsLate": (late(3000), [(late(40), None), (late(400), None), (late(3000, ONCE), None),
                                        (late(3000, "0x24 1+1x7 8x40"), None)]),
    "RoomsOutboxLate": ({"rooms_outbox_oldest_milliseconds": "6000x80"},
                        [({"rooms_outbox_oldest_milliseconds": "900x80"}, None)]),
    "RoomsSlowConsumers": ({**closed(4101, 1), "rooms_connections": "100x80"}, [
        ({**closed(4101, 1), "rooms_connections": "10000x80"}, None),
        ({**closed(4102, 9), "rooms_connections": "100x80"}, None)]),
    "RoomsGaps": ({"rooms_gaps_total": "0x30 3x60"}, [({"rooms_gaps_total": "3x80"}, None)]),
    "RoomsZoneNearlyFull": (zone("rooms_active", 81), [(zone("rooms_active", 80), None), (zone("rooms_zone_rooms", 100), None)]),
    "RoomsHistoryShort": (ring(30, 950), [(ring(30, 800), None), (ring(90, 1000), None)]),
    "RoomsZoneRepaired": ({"rooms_zone_recoveries_total": "0x30 1x60"}, [({"rooms_zone_recoveries_total": "1x80"}, None)]),
}


def fires(numbers, alert):
    """A group of promtool's: at the tenth minute this alert fires (None: no alert), and in the first moment none."""
    def at(time_, names):
        return {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": time_,
                "exp_samples": [{"labels": '{alertname="%s"}' % name, "value": 1} for name in names]}
    # A host that is not scraped is down, whatever else it shows.
    return {"interval": "15s", "input_series": series(**{"up": "1x80", **numbers}),
            "promql_expr_test": [at("0s", ()), at("10m", [alert] if alert else [])]}


def judged(*groups):
    with tempfile.TemporaryDirectory(prefix="rooms-alerts.") as place:
        # JSON is YAML.
        path = os.path.join(place, "test.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"rule_files": [f"{ROOT}/docs/monitoring/alerts.yml"], "evaluation_interval": "15s", "tests": groups}, file)
        return promtool("test", "rules", path)


@tap.case("promtool finds no fault in the rules; each alert has its section on the page, and its numbers below")
def _():
    done = promtool("check", "rules", os.path.join(ROOT, "docs/monitoring/alerts.yml"))
    tap.is_(done.returncode, 0, done.stdout + done.stderr)
    tap.is_(re.findall(r"^### (\w+)$", PAGE, re.M), ALERTS, "sections")
    tap.is_(re.findall(r"runbook: docs/monitoring\.md#(\w+)", RULES), [name.lower() for name in ALERTS], "runbooks")
    tap.is_(list(CASES), ALERTS, "numbers")


@tap.case("each alert fires on its numbers, after its time and alone, and is silent on the others")
def _():
    done = judged(*(fires(*each) for alert, (numbers, silent) in CASES.items() for each in [(numbers, alert), *silent]))
    tap.is_(done.returncode, 0, f"promtool: {done.stdout}{done.stderr}")


@tap.case("promtool would see each of them silent where it must fire, and fire where it must not")
def _():
    done = judged(*(each for alert, (numbers, silent) in CASES.items()
                    for each in (fires(numbers, None), fires(silent[0][0], alert))))
    found = re.findall(r"exp: (.*)\n +got: (.*)", done.stdout + done.stderr)
    one = '{alertname="%s"} 1E+00'
    tap.is_(found, [each for alert in CASES for each in (("nil", one % alert), (one % alert, "nil"))], "what it finds wrong")


@tap.case("RoomsDown says which host shows nothing, or that there is no target")
def _():
    groups = []
    for values, labels, said in (("0x80", {"job": "rooms", "instance": "a"}, "a shows no status page"),
                                 ("1x8 _x80", {"job": "rooms"}, "there is no target of the job rooms")):
        wanted = {"exp_labels": {**labels, "severity": "critical"},
                  "exp_annotations": {"summary": said, "runbook": "docs/monitoring.md#roomsdown"}}
        groups.append({"interval": "15s", "input_series": series(up=values), "alert_rule_test": [
            {"eval_time": "10m", "alertname": "RoomsDown", "exp_alerts": [wanted]}]})
    done = judged(*groups)
    tap.is_(done.returncode, 0, f"promtool: {done.stdout}{done.stderr}")


@tap.case("RoomsZoneNearlyFull says which part it is")
def _():
    groups = []
    for part in ("rooms_active", "rooms_zone_ids", "rooms_zone_users", "rooms_zone_tallies", "rooms_zone_slots"):
        group = fires(zone(part, 90), "RoomsZoneNearlyFull")
        wanted = {"labels": '{part="%s"}' % part.replace("active", "rooms").rpartition("_")[2], "value": 1}
        group["promql_expr_test"].append({"expr": 'count by (part) (ALERTS{alertstate="firing"})', "eval_time": "10m",
                                          "exp_samples": [wanted]})
        groups.append(group)
    done = judged(*groups)
    tap.is_(done.returncode, 0, f"promtool: {done.stdout}{done.stderr}")


# --- a running server

@tap.case("promtool takes the metrics; what it would have in seconds is known")
def _():
    done = promtool("check", "metrics", text=metrics())
    said = (done.stdout + done.stderr).strip().splitlines()
    tap.is_([line for line in said if line and not line.endswith('use base unit "seconds" instead of "milliseconds"')], [])
    tap.is_({line.split()[0] for line in said if line}, {
        "rooms_approval_lateness_milliseconds", "rooms_approval_sweeps_milliseconds_total", "rooms_outbox_oldest_milliseconds"})


@tap.case("every metric that the rules and the board name is there on a server with Redis and Postgres")
def _():
    there = set(re.findall(r"^(rooms_\w+)", metrics(), re.M))
    rules = [rule["query"] for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    for what, expressions in (("the rules", rules), ("the board", [expression for _, expression in queries()])):
        named = set(re.findall(r"\brooms_\w+", " ".join(expressions)))
        tap.ok(len(named) > 10, f"{what}: {len(named)} names")
        tap.is_(sorted(named - there), [], f"what {what} names")
    for worker in server.workers():
        tap.is_(len(re.findall(rf'^rooms_\w+{{pid="{worker}"}}', metrics(), re.M)), 7, "series of a worker")


@tap.case("Prometheus scrapes the server, and the one that wants the secret; RoomsDown waits for the one that is not there")
def _():
    wait_until(lambda: len(prometheus.query("up")) == 3, "three targets")
    busy()
    wanted = {HERE: 1, THERE: 1, NOWHERE: 0}
    wait_until(lambda: {labels["instance"]: value for labels, value in prometheus.query("up")} == wanted, "what is up")
    tap.is_(http.get(guarded, "/status").status, 401, "without the secret")
    pending = 'ALERTS{alertname="RoomsDown",alertstate="pending"}'
    wait_until(lambda: [labels["instance"] for labels, _ in prometheus.query(pending)] == [NOWHERE], "RoomsDown to be pending")


@tap.case("the rules are loaded, each is evaluated without an error, and nothing else is wrong with this server")
def _():
    def rules():
        groups = prometheus.api("rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None
    found = wait_until(rules, "every rule to be evaluated")
    tap.is_([rule["name"] for rule in found], ALERTS)
    tap.is_([(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"], [])
    tap.is_({rule["name"] for rule in found if rule["state"] != "inactive"}, {"RoomsDown"})


@tap.case("a worker that hears nothing is deaf to Prometheus, too; ended with SIGQUIT, as the page says, it is replaced",
          kills_workers=True)
def _():
    victim, other = server.workers()
    os.kill(victim, signal.SIGSTOP)
    try:
        found = wait_until(lambda: prometheus.query('ALERTS{alertname="RoomsWorkerDeaf"}'), "the worker to be deaf")
        tap.is_([labels["pid"] for labels, _ in found], [str(victim)])
        tap.is_(prometheus.query('ALERTS{alertname="RoomsRedisDown"}'), [])
    finally:
        os.kill(victim, signal.SIGCONT)
    os.kill(victim, signal.SIGQUIT)
    wait_until(lambda: victim not in server.workers() and len(server.workers()) == 2, "another worker")
    tap.in_(other, server.workers())


# --- the board

def queries():
    """[(the panel's title, a query as Grafana would send it)]"""
    filled = {"$job": ".*", "$instance": HERE, "$__rate_interval": "10s"}
    found = []
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


@tap.case("the board is one that Grafana takes: ids, places and variables, and every panel asks the Prometheus that is chosen")
def _():
    panels = BOARD["panels"]
    tap.is_(len({panel["id"] for panel in panels}), len(panels), "ids")
    tap.ok(BOARD["schemaVersion"] >= 36, "of Grafana 9 or newer")
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        tap.ok(place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} has a place of its own")
        taken |= cells
        if panel["type"] != "row":
            tap.is_({json.dumps(one["datasource"]) for one in [panel, *panel["targets"]]},
                    {'{"type": "prometheus", "uid": "${datasource}"}'}, panel["title"])
            tap.is_(len({target["refId"] for target in panel["targets"]}), len(panel["targets"]), "letters")
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    tap.is_(list(variables), ["datasource", "job", "instance"])
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD["panels"])))
    tap.is_(used - {"__rate_interval"}, set(variables), "variables that are used")
    rows = {panel["title"] for panel in panels if panel["type"] == "row"}
    tap.is_(rows, {"Now", "Traffic", "What went wrong", "The zone", "Workers", "Redis", "Postgres", "Approvals"})


@tap.case("every query of the board is answered with numbers")
def _():
    missing = dict.fromkeys(queries())

    def ask():
        busy()
        now = time.time()
        for title, expression in list(missing):
            # Raises what Prometheus refuses.
            result = prometheus.api("query_range", query=expression, start=now - 10, end=now, step=1)["result"]
            if any(value != "NaN" for one in result for _, value in one["values"]):
                del missing[title, expression]
        return not missing
    try:
        wait_until(ask, "numbers")
    except AssertionError:
        tap.fail(f"no number for {list(missing)}")


@tap.case("the variables of the board find the job and the hosts")
def _():
    tap.is_(prometheus.api("label/job/values", **{"match[]": "rooms_connections"}), ["rooms"])
    hosts = prometheus.api("label/instance/values", **{"match[]": 'rooms_connections{job=~".*"}'})
    tap.is_(sorted(hosts), sorted([HERE, THERE]))


tap.run()
