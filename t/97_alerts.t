#!/usr/bin/python3
"""docs/monitoring/alerts.yml: each rule on numbers, evaluation by evaluation, with the bounds, times and severities that
docs/monitoring.md says."""
import json
import os
import re
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, tap                                               # noqa: E402
from rooms.example import page                                            # noqa: E402

PAGE = page("docs/monitoring.md")
RULES = page("docs/monitoring/alerts.yml")
FILE = os.path.join(ROOT, "docs/monitoring/alerts.yml")
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.M)
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.M | re.S))


def constant(name, file):
    """Of the source."""
    return [int(word) for word in re.search(rf"\b{name} = \{{?([\d, ]+)\}}?;", page(file))[1].split(",")]


# --- what the page says

SECONDS = {"ms": 0.001, "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
WORDS = {"a": 1, "an": 1, **{word: n for n, word in enumerate("one two three four five six seven eight nine ten".split(), 1)}}
PARTS = {"half": 50, "third": 33, "quarter": 25, "fifth": 20, "tenth": 10}
QUANTITY = re.compile(
    rf"\b(?P<half>half )?(?P<number>\d+(?:\.\d+)?|{'|'.join(WORDS)}) (?:\w+ )??"
    rf"(?P<unit>{'|'.join(SECONDS)}|%|percent)(?:s\b|\b|(?<=%))"
    rf"|\b(?:a|one) (?P<part>{'|'.join(PARTS)})\b")


def quantities(text):
    """{(number, "s" or "%")}: each duration and share that a text names."""
    found = set()
    for one in QUANTITY.finditer(" ".join(text.split())):
        if one["part"]:
            found.add((PARTS[one["part"]], "%"))
            continue
        number = (WORDS.get(one["number"]) or float(one["number"])) * (0.5 if one["half"] else 1)
        found.add((number * SECONDS[one["unit"]], "s") if one["unit"] in SECONDS else (number, "%"))
    return found


def seconds(text):
    (number, unit), = quantities(text)
    assert unit == "s", text
    return int(number)


# The column "when", with the numbers that the cases are made of.
N = r"(\d+)"
REFUSED = rf" were refused in {N} minutes of the last {N}, and in the last {N}"
WHEN = {
    "RoomsDown": "the scrape fails, or there is no target",
    "RoomsWorkerDeaf": "a worker is deaf, and another one of its host is not",
    "RoomsRedisDown": "all workers of a host are deaf",
    "RoomsRedisRefuses": "a worker is refused by Redis",
    "RoomsPostgresDown": rf"a worker had no database in a scrape of the last {N} minutes?",
    "RoomsPublishRefused": "publications" + REFUSED,
    "RoomsApprovalsRefused": "requests" + REFUSED,
    "RoomsApprovalsLate": rf"more than {N} % of the timeouts were more than {N} seconds? late in {N} minutes of the last {N}, "
                          rf"and over the last {N}",
    "RoomsOutboxLate": rf"the oldest event waits for more than {N} seconds?",
    "RoomsSlowConsumers": rf"in {N} minutes more than {N} % of the sockets, and more than {N}, were closed with {N}",
    "RoomsGaps": rf"a gap was told in the last {N} minutes",
    "RoomsZoneNearlyFull": rf"more than {N} % of a part of the zone are taken",
    "RoomsHistoryShort": rf"the oldest event is younger than {N} seconds, and more than {N} % of the ring are taken",
    "RoomsZoneRepaired": rf"the zone was repaired in the last {N} minutes",
}
ROWS = {name: (anchor, severity, when, for_) for name, anchor, severity, when, for_ in re.findall(
    r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \| (.+) \| (.+) \|$", PAGE, re.M)}


def numbers_of(alert):
    found = re.fullmatch(WHEN[alert], ROWS[alert][2])
    assert found, f"{alert}: the page says {ROWS[alert][2]!r}"
    return [int(number) for number in found.groups()]


def lasts(alert):
    """The column "for"."""
    return 0 if ROWS[alert][3] == "at once" else seconds(ROWS[alert][3])


# --- numbers

STEP, BEGIN, END = 15, 300, 1500     # of a scrape and an evaluation; when trouble begins and ends


def between(bad, good, begin=BEGIN, end=END):
    return lambda at: bad if begin <= at < end else good


def counted(*events):
    """A counter that has grown by the time of a scrape, by 1 or as much as is said: time, or (time, how much)."""
    pairs = [event if isinstance(event, tuple) else (event, 1) for event in events]
    return lambda at: sum(much for when, much in pairs if when <= at)


def always(begin=BEGIN + STEP, end=END, every=STEP, much=1):
    return [(at, much) for at in range(begin, end, every)]


def deaf(first, second):
    """Of two workers."""
    return {'rooms_worker_deaf{pid="1"}': first, 'rooms_worker_deaf{pid="2"}': second,
            "rooms_redis_workers_hearing": lambda at: 2 - value(first, at) - value(second, at)}


def asks(first, second):
    return {'rooms_worker_refused{pid="1"}': first, 'rooms_worker_refused{pid="2"}': second}


LATENESS = constant("kLatenessMs", "src/nginx/counters.hpp")


def timeouts(*events):
    """(when, how many, how late in ms)"""
    bounds = {bound: [(at, many) for at, many, ms in events if ms <= bound] for bound in [*LATENESS, float("inf")]}
    return {'rooms_approval_lateness_milliseconds_bucket{le="%s"}' % ("+Inf" if bound == float("inf") else bound): counted(*some)
            for bound, some in bounds.items()}


def refused(reason, *events):
    return {'rooms_errors_total{reason="%s"}' % reason: counted(*events)}


def closed(code, sockets, *events):
    return {'rooms_connections_closed_total{code="%d"}' % code: counted(*events), "rooms_connections": sockets}


def zone(part, used):
    parts = {"rooms_zone_rooms_max": 100, "rooms_active": 1, "rooms_zone_rooms": 100}
    for name in ("ids", "users", "tallies", "slots"):
        parts |= {f"rooms_zone_{name}": 1, f"rooms_zone_{name}_max": 100}
    return {**parts, part: used}


def ring(age, used):
    return {"rooms_zone_ring_seconds": age, "rooms_zone_ring_used_bytes": used, "rooms_zone_ring_size_bytes": 1000}


# --- each alert: what it must do on which numbers. (a host, its numbers, when its alert fires: (from, to), or None); what else
# fires there: {alert: (from, to)}. No case has the name of another one of its alert.

def whole_minute(at):
    return -(-at // 60) * 60


def up_cases(begin):
    yield "a host that is down", {"up": between(0, 1)}, (BEGIN + begin, END)
    yield "one that is not", {"up": 1}, None
    yield "a restart of nginx", {"up": between(0, 1, end=BEGIN + begin)}, None


def deaf_cases(begin):
    yield "one worker of two", deaf(between(1, 0), 0), (BEGIN + begin, END)
    yield "the other one", deaf(0, between(1, 0)), (BEGIN + begin, END)
    yield "a moment", deaf(0, between(1, 0, end=BEGIN + begin)), None
    yield "both: it is Redis", deaf(between(1, 0), between(1, 0)), {"RoomsRedisDown": (BEGIN + lasts("RoomsRedisDown"), END)}


def redis_cases(begin):
    yield "no worker hears", deaf(between(1, 0), between(1, 0)), (BEGIN + begin, END)
    yield "a moment", deaf(*[between(1, 0, end=BEGIN + begin)] * 2), None
    yield "nothing", deaf(0, 0), None


def refuses_cases(begin):
    yield "both workers", asks(between(1, 0), between(1, 0)), (BEGIN + begin, END)
    yield "one of two", asks(0, between(1, 0)), (BEGIN + begin, END)
    yield "a moment", asks(between(1, 0, end=BEGIN + begin), 0), None
    # Who has no Redis is not refused any more.
    gone = {**asks(between(1, 0, end=900), between(1, 0, end=900)), **deaf(*[between(1, 0, begin=900)] * 2)}
    yield "then Redis goes away", gone, {"RoomsRedisRefuses": (BEGIN + begin, 900),
                                         "RoomsRedisDown": (900 + lasts("RoomsRedisDown"), END)}


def postgres_cases(begin, minutes):
    window = minutes * 60
    up = "rooms_postgres_up"
    yield "away", {up: between(0, 1)}, (BEGIN + begin, END + window)
    yield "back", {up: 1}, None
    enough = BEGIN + begin - window
    yield "half a minute", {up: between(0, 1, end=enough + STEP)}, (BEGIN + begin, BEGIN + begin + STEP)
    yield "less", {up: between(0, 1, end=enough)}, None
    yield "it comes and goes", {up: lambda at: 0 if BEGIN <= at < END and at % 30 == 0 else 1}, (
        BEGIN + begin, END - 30 + window + STEP)


def refused_cases(reason, begin, minutes, of, last):
    """On busy and on quiet hosts."""
    first = BEGIN + STEP

    def fires(events):
        """In so many minutes; until the last one is so long ago."""
        there = sorted({whole_minute(at) for at in events})
        return there[minutes - 1] + begin, events[-1] + last * 60
    yield "a busy host, each", refused(reason, *always(much=900)), fires([at for at, _ in always()])
    for apart, end in ((90, first + 1800), (last * 60 - 30, first + 3600)):
        some = list(range(first, end, apart))
        yield f"a quiet host, one in {apart} s", refused(reason, *some), fires(some)
    few = [first + 90 * n for n in range(minutes)]
    yield "as few as that", refused(reason, *few), fires(few)
    yield "one less", refused(reason, *few[:-1]), None
    yield "a burst in one minute", refused(reason, *always(end=BEGIN + 60 + 1, much=900)), None
    long_ago = [first, first + 60, first + of * 60]
    yield "the first is about to be too long ago", refused(reason, *long_ago), (
        whole_minute(long_ago[-1]), whole_minute(long_ago[-1]) + STEP)
    yield "the first is too long ago", refused(reason, *long_ago[:-1], long_ago[-1] + 60), None
    yield "before Prometheus began", {'rooms_errors_total{reason="%s"}' % reason: 9}, None
    other = reason.replace("unavailable", "bad")
    yield f"{other}", refused(other, *always()), None


def late_cases(begin, percent, second, minutes, of, last):
    first = BEGIN + STEP
    bound = second * 1000

    def fires(events):
        return sorted({whole_minute(at) for at in events})[minutes - 1] + begin, events[-1] + last * 60
    for what, apart, end in (("one a minute", 60, 7200), ("one now and then", last * 60 - 30, 5400)):
        some = list(range(first, first + end, apart))
        yield f"a quiet host, {what}, for long", timeouts(*((at, 1, 31000) for at in some)), fires(some)
    few = [first + 90 * n for n in range(minutes)]
    yield "as few as that", timeouts(*((at, 1, bound + 1) for at in few)), fires(few)
    yield "one less", timeouts(*((at, 1, 31000) for at in few[:-1])), None
    yield "not so late", timeouts(*((at, 9, bound) for at, _ in always())), None
    yield "after a short outage, many at once", timeouts((first, 500, 31000), (first + STEP, 500, 31000)), None
    busy = [at for at, _ in always()]
    for share, at in ((percent - 1, None), (percent + 1, fires(busy))):
        yield f"a busy host, {share} %", timeouts(*((at, share, bound + 1) for at in busy),
                                                  *((at, 100 - share, 5) for at in busy)), at
    # It gets better: 40 scrapes are in ten minutes, of whose timeouts the late ones become fewer.
    worse = [at for at in busy if at <= 600]
    seen = last * 60 // STEP
    left = max(n for n in range(len(worse)) if n * 100 / (n * 100 + (seen - n) * 110) <= percent / 100)
    yield "a busy host that recovers", timeouts(*((at, 100, 31000) for at in worse),
                                                *((at, 110, 5) for at in range(615, 2400, STEP))), (
        fires(busy)[0], worse[-left] + last * 60 - STEP)
    # Late in those minutes, and then only almost; almost late for long, and late in one minute.
    almost = [(at, 10, bound) for at, _ in always(begin=615)]
    three = [first + 60 * n for n in range(minutes)]
    yield "then only almost", timeouts(*((at, 1, 31000) for at in three), *almost), (
        fires(three)[0], next(at for n, (at, _, _) in enumerate(almost, 1) if minutes / (minutes + n * 10) < percent / 100))
    yield "almost, and once late", timeouts(*almost, (900, 5000, 31000)), None
    long_ago = [first, first + 60, first + of * 60]
    yield "the first is about to be too long ago", timeouts(*((at, 1, 31000) for at in long_ago)), (
        whole_minute(long_ago[-1]), whole_minute(long_ago[-1]) + STEP)
    yield "the first is too long ago", timeouts(*((at, 1, 31000) for at in [*long_ago[:-1], long_ago[-1] + 60])), None


def outbox_cases(begin, second):
    name = "rooms_outbox_oldest_milliseconds"
    yield "waits", {name: between(second * 1000 + 1, 900)}, (BEGIN + begin, END)
    yield "not so long", {name: second * 1000}, None
    yield "a moment", {name: between(second * 1000 + 1, 0, end=BEGIN + begin)}, None


def slow_cases(begin, minutes, percent, least, code):
    many = percent * 100    # of 10000 sockets
    until = (BEGIN + begin, BEGIN + minutes * 60)
    for sockets, bound in ((20, least), (10000, many)):
        yield f"{bound + 1} of {sockets}", closed(code, sockets, (BEGIN, bound + 1)), until
        yield f"{bound} of {sockets}", closed(code, sockets, (BEGIN, bound)), None
    few = [BEGIN + n * minutes * 60 // least for n in range(3 * least)]
    yield "a few for long", closed(code, 20, *few), None
    yield "another code", closed(code + 1, 20, *always()), None


def gaps_cases(begin, minutes):
    yield "told", {"rooms_gaps_total": counted((BEGIN, 3))}, (BEGIN + begin, BEGIN + minutes * 60)
    yield "before", {"rooms_gaps_total": 3}, None


def full_cases(begin, percent):
    for part in ("rooms_active", "rooms_zone_ids", "rooms_zone_users", "rooms_zone_tallies", "rooms_zone_slots"):
        yield part, zone(part, between(percent + 1, percent)), (BEGIN + begin, END)
    yield "a moment", zone("rooms_active", between(percent + 1, percent, end=BEGIN + begin)), None
    yield "rooms without members", zone("rooms_zone_rooms", 100), None


def history_cases(begin, young, percent):
    yield "short", ring(between(young - 1, young), percent * 10 + 1), (BEGIN + begin, END)
    yield "the ring fills", ring(young - 1, between(percent * 10 + 1, percent * 10)), (BEGIN + begin, END)
    yield "a moment", ring(between(young - 1, young, end=BEGIN + begin), percent * 10 + 1), None


def repaired_cases(begin, minutes):
    yield "repaired", {"rooms_zone_recoveries_total": counted(BEGIN)}, (BEGIN + begin, BEGIN + minutes * 60)
    yield "before", {"rooms_zone_recoveries_total": 1}, None


CASES = {
    "RoomsDown": up_cases, "RoomsWorkerDeaf": deaf_cases, "RoomsRedisDown": redis_cases, "RoomsRedisRefuses": refuses_cases,
    "RoomsPostgresDown": postgres_cases,
    "RoomsPublishRefused": lambda *numbers: refused_cases("publish_unavailable", *numbers),
    "RoomsApprovalsRefused": lambda *numbers: refused_cases("approval_unavailable", *numbers),
    "RoomsApprovalsLate": late_cases, "RoomsOutboxLate": outbox_cases, "RoomsSlowConsumers": slow_cases,
    "RoomsGaps": gaps_cases, "RoomsZoneNearlyFull": full_cases, "RoomsHistoryShort": history_cases,
    "RoomsZoneRepaired": repaired_cases,
}


# --- promtool

def value(what, at):
    return what(at) if callable(what) else what


def series(host, numbers, until):
    found = []
    for name, what in numbers.items():
        name, _, labels = name.partition("{")
        labels = f'job="rooms",instance="{host}"' + ("," + labels[:-1] if labels else "")
        found.append({"series": f"{name}{{{labels}}}", "values": " ".join(str(value(what, at)) for at in range(0, until, STEP))})
    return found


def group(cases):
    """[(host, numbers, {alert: (from, to)})]. At each evaluation these fire with the page's severity, and no other anywhere."""
    until = max([2400, *(end + 600 for _, _, fires in cases for _, end in fires.values())])

    def firing(at):
        return [{"labels": f'{{instance="{host}", alertname="{alert}", severity="{ROWS[alert][1]}"}}', "value": 1}
                for host, _, fires in cases for alert, (begin, end) in fires.items() if begin <= at < end]
    # A host that is not scraped is down, whatever else it shows.
    return {"interval": f"{STEP}s", "input_series": [one for host, numbers, _ in cases
                                                     for one in series(host, {"up": 1, **numbers}, until)],
            "promql_expr_test": [{"expr": 'group by (instance, alertname, severity) (ALERTS{alertstate="firing"})',
                                  "eval_time": f"{at}s", "exp_samples": firing(at)} for at in range(0, until, STEP)]}


def judged(*groups):
    """(exit code, what promtool says)"""
    with tempfile.TemporaryDirectory(prefix="rooms-alerts.") as place:
        # JSON is YAML.
        path = os.path.join(place, "test.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"rule_files": [FILE], "evaluation_interval": f"{STEP}s", "tests": groups}, file)
        done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def right(*groups):
    code, said = judged(*groups)
    tap.is_(code, 0, f"promtool: {said[:2000]}")


# --- the cases

@tap.case("promtool finds no fault in the rules; each has its row, section and runbook on the page")
def _():
    done = subprocess.run(["promtool", "check", "rules", FILE], capture_output=True, text=True, check=False)
    tap.is_(done.returncode, 0, done.stdout + done.stderr)
    tap.is_(list(ROWS), ALERTS, "rows")
    tap.is_([row[0] for row in ROWS.values()], [name.lower() for name in ALERTS], "their links")
    tap.is_(list(SECTIONS), ALERTS, "sections")
    tap.is_(re.findall(r"runbook: docs/monitoring\.md#(\w+)", RULES), [name.lower() for name in ALERTS], "runbooks")
    tap.is_(list(CASES), ALERTS, "numbers")
    tap.is_({row[1] for row in ROWS.values()}, {"critical", "warning"}, "severities")


def silent_and_firing(alert):
    cases = [(host, numbers, fires if isinstance(fires, dict) else {alert: fires} if fires else {})
             for host, numbers, fires in CASES[alert](lasts(alert), *numbers_of(alert))]
    tap.ok(any(fires for _, _, fires in cases) and any(not fires for _, _, fires in cases), "both kinds")
    # Hosts that are watched for hours are a group of their own, for the others would be, too.
    long = [case for case in cases if any(end > 4000 for _, end in case[2].values())]
    right(group([case for case in cases if case not in long]), *([group(long)] if long else []))


for alert_ in ALERTS:
    tap.add(f"{alert_} fires from the moment to the moment that the page says, on its numbers only, and alone",
            silent_and_firing, alert_)


@tap.case("an evaluation too early or too late, another severity, an alert too many: promtool sees each")
def _():
    begin, end = BEGIN + lasts("RoomsOutboxLate"), END
    numbers = {"rooms_outbox_oldest_milliseconds": between(999999, 0)}
    for fires in ((begin - STEP, end), (begin + STEP, end), (begin, end - STEP), (begin, end + STEP)):
        tap.is_(judged(group([("a", numbers, {"RoomsOutboxLate": fires})]))[0], 1, f"{fires}")
    tap.is_(judged(group([("a", numbers, {})]))[0], 1, "none expected")
    other = group([("a", numbers, {"RoomsOutboxLate": (begin, end)})])
    right(other)
    for query in other["promql_expr_test"]:
        for sample in query["exp_samples"]:
            sample["labels"] = sample["labels"].replace("warning", "critical")
    tap.is_(judged(other)[0], 1, "severity")


@tap.case("RoomsDown says which host shows nothing, or that there is no target")
def _():
    groups = []
    due = BEGIN + lasts("RoomsDown")
    for up, labels, said in ((between(0, 1), {"job": "rooms", "instance": "a"}, "a shows no status page"),
                             (between("stale", 1), {"job": "rooms"}, "there is no target of the job rooms")):
        wanted = {"exp_labels": {**labels, "severity": ROWS["RoomsDown"][1]},
                  "exp_annotations": {"summary": said, "runbook": "docs/monitoring.md#roomsdown"}}
        groups.append({"interval": f"{STEP}s", "input_series": series("a", {"up": up}, END), "alert_rule_test": [
            {"eval_time": f"{at}s", "alertname": "RoomsDown", "exp_alerts": [wanted] if at == due else []}
            for at in (0, due - STEP, due)]})
    right(*groups)


@tap.case("RoomsZoneNearlyFull says which part it is")
def _():
    parts = ("rooms_active", "rooms_zone_ids", "rooms_zone_users", "rooms_zone_tallies", "rooms_zone_slots")
    cases = [(part, zone(part, 90), {"RoomsZoneNearlyFull": (lasts("RoomsZoneNearlyFull"), 2400)}) for part in parts]
    full = group(cases)
    wanted = [{"labels": f'{{instance="{part}", part="{part.replace("active", "rooms").rpartition("_")[2]}"}}', "value": 1}
              for part in parts]
    full["promql_expr_test"] = [{"expr": 'group by (instance, part) (ALERTS{alertstate="firing"})', "eval_time": "10m",
                                 "exp_samples": wanted}]
    right(full)


# --- the words beside the table

def known(alert):
    """What a section may name: the numbers of its row, in seconds and percent."""
    numbers = numbers_of(alert)
    found = quantities(" ".join(ROWS[alert][2:])) | {(60 * number, "s") for number in numbers}
    return found


# Of the source, and what follows from two numbers of a row.
ALSO = {
    "RoomsWorkerDeaf": [(constant("kDeafAfterMs", "src/nginx/status_report.hpp")[0] / 1000, "s")],
    "RoomsRedisRefuses": [(constant("kDeafAfterMs", "src/nginx/status_report.hpp")[0] / 1000, "s")],
    "RoomsPostgresDown": [(lasts("RoomsPostgresDown") - 60 * numbers_of("RoomsPostgresDown")[0], "s"),
                          (constant("kTickMs", "src/store/approval_sweeper.hpp")[0] / 1000, "s")],
    "RoomsOutboxLate": [(constant("kReportMs", "src/store/approval_sweeper.hpp")[0] / 1000, "s")],
}


@tap.case("each duration and share in a section is one of its row, or of the source")
def _():
    for alert, text in SECTIONS.items():
        tap.is_(sorted(quantities(text) - known(alert) - set(ALSO.get(alert, ()))), [], alert)
        tap.is_(sorted(set(ALSO.get(alert, ())) - quantities(text)), [], f"{alert}: what its section must say")


@tap.case("the other words of the page name the scrapes' interval and the rules' shortest range, and no other time")
def _():
    intervals = set(re.findall(r"scrape_interval: (\d+)s", PAGE))
    ranges = [int(number) * {"s": 1, "m": 60}[unit] for number, unit in re.findall(r"\[(\d+)([sm])[\]:]", RULES)]
    tap.is_(len(intervals), 1, "intervals")
    interval = int(intervals.pop())
    tap.ok(4 * interval <= min(ranges), f"several scrapes in {min(ranges)} s")
    words = re.sub(r"^```.*?^```$|^\|.*?$", "", PAGE, flags=re.M | re.S)
    for text in SECTIONS.values():
        words = words.replace(text, "")
    tap.is_(quantities(words), {(interval, "s"), (min(ranges), "s")})


tap.run()
