#!/usr/bin/python3
"""docs/monitoring.md: its configuration, alert rules and board, in a real Prometheus that scrapes a running server."""
import grp
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, http, tap, wait_until                             # noqa: E402
from rooms.approvals import LOCATIONS, OPTIONS, act, approvals_host, create, migrate, new_session    # noqa: E402
from rooms.example import block, page, paste, replaced                    # noqa: E402
from rooms.nginx import Nginx, free_port                                  # noqa: E402
from rooms.page import open_page                                          # noqa: E402
from rooms.postgres import Postgres                                       # noqa: E402
from rooms.prometheus import Prometheus                                   # noqa: E402
from rooms.redis import Redis                                             # noqa: E402

PAGE = page("docs/monitoring.md")
RULES = page("docs/monitoring/alerts.yml")
BOARD = json.loads(page("docs/monitoring/rooms.json"))
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.M)
WORDS = " ".join(PAGE.split())
LEAST = int(re.search(r"a line of (\d+) bytes or more", WORDS)[1])
USER, GROUP = pwd.getpwuid(os.geteuid())[0], grp.getgrgid(os.getegid())[0]


def shown(info, words):
    return replaced(block(PAGE, info), words)


def promtool(*arguments, text=None):
    return subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)


# --- a server with all that can be counted, one that wants a secret, and none

redis, pg = Redis(appendfsync=None), Postgres(options=OPTIONS)
migrate(pg)
sql = pg.session()
server = approvals_host(pg, locations=LOCATIONS.replace("location = /status  { rooms_status; }", block(PAGE, "nginx here")),
                        http=f"rooms_redis {redis.url};", name="with all")
guarded = Nginx(shown("nginx elsewhere", {"/etc/nginx": "@DIR@"}), tls=True, start=False, name="with a secret")
paste(shown("sh nginx", {"-o root -g root": f"-o {USER} -g {GROUP}", "/etc/nginx": guarded.dir}))
guarded.start()
SECRET = guarded.read("status.secret")
HERE, THERE, NOWHERE = (f"127.0.0.1:{port}" for port in (server.port, guarded.tls_port, free_port()))


def configured():
    """Both of the page's configurations in one Prometheus, whose rules want one name of all jobs."""
    quick = {"scrape_interval: 15s": "scrape_interval: 500ms", "/etc/prometheus/": "@DIR@/"}
    here = shown("yaml here", {**quick, "['127.0.0.1:8080']": f"['{HERE}', '{NOWHERE}']"})
    there = shown("yaml elsewhere", {**quick, "job_name: rooms": "job_name: elsewhere", "['ws.example.com']": f"['{THERE}']"})
    jobs = [text.partition("rule_files:")[0].partition("scrape_configs:\n")[2] for text in (here, there)]
    assert here.partition("rule_files:")[2] == there.partition("rule_files:")[2], "rule_files"
    authority = re.search(r"`(tls_config: \{ca_file: …\})` beside `scheme`", WORDS)[1]
    return ("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n"
            f"scrape_configs:\n{jobs[0]}{jobs[1]}    {authority.replace('…', guarded.certificate)}\n"
            "    relabel_configs: [{target_label: job, replacement: rooms}]\n"
            f"rule_files:{here.partition('rule_files:')[2]}")


prometheus = Prometheus(configured(), {"rooms-alerts.yml": RULES}, start=False)
paste(f"cat {guarded.path('status.secret')} |" + shown("sh prometheus", {
    "-o prometheus -g prometheus": f"-o {USER} -g {GROUP}", "/etc/prometheus": prometheus.dir}))
prometheus.start()


def metrics():
    return http.get(server, "/status?format=prometheus").text


def firing(alert, label="instance"):
    """Where this alert is firing, or will be if it goes on."""
    return [labels[label] for labels, _ in prometheus.query(f'ALERTS{{alertname="{alert}"}}')]


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


@tap.case("each worker has as many series of its own as the page says, without Redis and with it")
def _():
    numbers = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    said = tap.like(WORDS, r"Each worker has (\w+) series of its own, with Redis (\w+), with `pid` as their label").groups()
    without = http.get(guarded, "/status?format=prometheus", headers={"Authorization": f"Bearer {SECRET.strip()}"}).text
    for host, text, many in ((guarded, without, said[0]), (server, metrics(), said[1])):
        for worker in host.workers():
            series = re.findall(rf'^rooms_\w+{{pid="{worker}"}}', text, re.M)
            tap.is_(len(series), numbers.index(many) + 1, f"series of a worker {host.name}")


@tap.case("the files of the secret, as the page makes them, are for their users alone; so short may it be, and not shorter")
def _():
    for path in (guarded.path("status.secret"), os.path.join(prometheus.dir, "rooms.secret")):
        tap.is_(stat.S_IMODE(os.stat(path).st_mode), 0o600, path)
        with open(path, encoding="utf-8") as file:
            tap.is_(file.read(), SECRET, path)
    for length, code in ((LEAST, 0), (LEAST - 1, 1)):
        guarded.write("short", "s3cret-0f-a-host/watched"[:length] + "\n")
        said = guarded.test_config(locations="location = /status { rooms_status secret=@DIR@/short; }")
        tap.is_(said[0], code, f"{length} bytes: {said[1]}")


@tap.case("Prometheus scrapes the server, and by TLS the one that wants the secret; RoomsDown waits for one that is not there")
def _():
    wait_until(lambda: len(prometheus.query("up")) == 3, "three targets")
    busy()
    wanted = {HERE: 1, THERE: 1, NOWHERE: 0}
    wait_until(lambda: {labels["instance"]: value for labels, value in prometheus.query("up")} == wanted, "what is up")
    tap.is_(http.get(guarded, "/status").status, 401, "without the secret")
    for secret, up in (("x" * LEAST, 0), (SECRET, 1)):
        with open(os.path.join(prometheus.dir, "rooms.secret"), "w", encoding="utf-8") as file:
            file.write(secret)
        wait_until(lambda: prometheus.query(f'up{{instance="{THERE}"}}')[0][1] == up, f"up to be {up} with {secret!r}")
    wait_until(lambda: firing("RoomsDown") == [NOWHERE], "RoomsDown to be pending")


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


@tap.case("a worker that is stopped is deaf to Prometheus, too, and ps says it as on the page; SIGQUIT replaces it afterwards",
          kills_workers=True)
def _():
    state, wanted = tap.like(WORDS, r"`(ps -o stat,wchan:32 -p PID)` says which: (\w) is stopped \(SIGCONT\)").groups()
    victim, other = server.workers()
    os.kill(victim, signal.SIGSTOP)
    os.kill(victim, signal.SIGQUIT)
    try:
        found = wait_until(lambda: firing("RoomsWorkerDeaf", "pid"), "the worker to be deaf")
        tap.is_(found, [str(victim)])
        tap.is_(firing("RoomsRedisDown"), [])
        tap.is_(paste(state.replace("PID", str(victim))).splitlines()[1][0], wanted, "state")
        tap.in_(victim, server.processes(), "it does not heed SIGQUIT")
    finally:
        os.kill(victim, signal.SIGCONT)
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
