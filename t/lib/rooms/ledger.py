# The checker: what publishers were answered against what each client was handed, where epochs may change and losses may be
# told. Pure: acknowledgements and the swarms' lines in, a Verdict out, so that kept logs can be judged again.
#
# A client is told its position by `start`, `gap` (while connected) and `reset` (recovered:false). A position (epoch,
# offset) answers for everything up to that offset of that epoch and for all older epochs of its room; a page fetches its
# state anew there. An epoch is older than another one of its room when it was seen first.
import collections
import json

from .load import Acknowledged

POSITIONS = ("start", "gap", "reset")


class Verdict:
    # What must never be:
    #   lost        acknowledged after a client's position, never handed to it, and no later position answers for it
    #   duplicated  an id handed to the page twice within one epoch
    #   reordered   an offset not above the one before in its epoch, or of an epoch that was over; repeats aside
    #   holes       offsets passed over of which no publisher had an answer
    #   broken      what the swarm itself calls so: another room's event, an error
    WRONGS = ("lost", "duplicated", "reordered", "holes", "broken")

    def __init__(self):
        self.published = self.events = self.clients = self.gaps = self.resets = self.unavailable = self.refused = 0
        # No wrong in themselves where a broker forgets what it had acknowledged, and tells: an id that came again in a
        # newer epoch; what was published into an older epoch after a client had been told of the newer one (an old
        # master was still up); an offset of an epoch that was given to two ids.
        self.again = self.late = 0
        self.forked = []
        self.closes = collections.Counter()
        self.count = collections.Counter()      # of each wrong
        self.cases = collections.defaultdict(list)
        # Seconds in which no client got anything while there were publications, and the longest that one client waited
        # for an acknowledged publication, or for the position that answers for it.
        self.silence, self.silence_at = 0.0, None
        self.worst, self.worst_case = 0.0, None

    def add(self, kind, text, count=1):
        self.count[kind] += count
        self.cases[kind].append(text)

    def problems(self):
        return [f"{kind}: {text}" for kind in self.WRONGS for text in self.cases[kind]]


class _Client:
    def __init__(self, number):
        self.number, self.room, self.lines = number, None, []


def _by_client(lines, members=()):
    clients = {}
    for number in members:
        clients[number] = _Client(number)
        clients[number].room = members[number]
    for line in lines:
        client = clients.setdefault(line["c"], _Client(line["c"]))
        client.lines.append(line)
        client.room = line.get("room", client.room)
    return clients.values()


def _ages(acknowledged, clients):
    """{room: {epoch: how many are older}}"""
    first = collections.defaultdict(dict)
    seen = [(one.room, one.epoch, one.t_ack) for one in acknowledged]
    seen += [(client.room, line["epoch"], line["t"]) for client in clients for line in client.lines if "epoch" in line]
    for room, epoch, moment in seen:
        first[room][epoch] = min(moment, first[room].get(epoch, moment))
    return {room: {epoch: age for age, epoch in enumerate(sorted(epochs, key=epochs.get))} for room, epochs in first.items()}


def check(acknowledged, lines, settled=True, members=(), name=lambda number: f"client {number}"):
    """acknowledged: [Acknowledged]. lines: those of all swarms, each in the order of its log. settled: everything had its
    time to arrive, so that what comes after a client's last event counts too. members: {client: room} of those that
    should be there. name: of a client, for the report."""
    verdict, clients = Verdict(), _by_client(lines, members)
    verdict.published, verdict.clients = len(acknowledged), len(clients)
    rooms = collections.defaultdict(list)
    for one in acknowledged:
        rooms[one.room].append(one)
    ages = _ages(acknowledged, clients)
    _find_forks(verdict, acknowledged, clients, name)
    seen = {(client.room, line["epoch"]) for client in clients for line in client.lines if "epoch" in line}
    for client in clients:
        who = f"{name(client.number)} of {client.room}"
        walked = _Walk(verdict, client, rooms[client.room], ages.get(client.room, {}), who)
        _find_lost(verdict, client, rooms[client.room], ages.get(client.room, {}), walked, seen, settled, who)
    _measure_silence(verdict, acknowledged, clients)
    return verdict


def _find_forks(verdict, acknowledged, clients, name):
    ids = {}        # position: who said first which id it has
    for one in acknowledged:
        first = ids.setdefault(one[:3], one.id)
        if first != one.id:
            verdict.forked.append(f"{one.room}: offset {one.offset} of epoch {one.epoch} was acknowledged for {first} "
                                  f"and {one.id}")
    for client in clients:
        for line in client.lines:
            if line["kind"] == "event":
                first = ids.setdefault((client.room, line["epoch"], line["offset"]), line["id"])
                if first != line["id"]:
                    verdict.forked.append(f"{name(client.number)} of {client.room}: offset {line['offset']} of epoch "
                                          f"{line['epoch']} is {line['id']} at {line['t']:.3f}, elsewhere {first}")


class _Walk:
    """One client's log, line by line."""

    def __init__(self, verdict, client, acknowledged, ages, who):
        self.verdict, self.ages, self.who = verdict, ages, who
        self.answered = collections.defaultdict(set)    # epoch: offsets
        for one in acknowledged:
            self.answered[one.epoch].add(one.offset)
        self.delivered = {}     # (epoch, offset, id): when
        self.told = []          # positions: (when, epoch, offset)
        self.handed = {}        # id: (epoch, offset)
        self.at = {}            # epoch: its last offset, of an event or a position
        self.epoch = None
        for line in client.lines:
            kind = line["kind"]
            if kind in POSITIONS:
                self._position(line, kind)
            elif kind == "event":
                self._event(line["epoch"], line["offset"], line["id"], line["t"])
            elif kind == "close":
                verdict.closes[line["code"]] += 1
            elif kind == "unavailable":
                verdict.unavailable += 1
            elif kind == "refused":
                verdict.refused += 1
            elif kind == "broken" and line["why"] not in ("repeat", "hole"):     # which are judged here
                verdict.add("broken", f"{who}: {line['why']} at {line['t']:.3f}")

    def _position(self, line, kind):
        self.verdict.gaps += kind == "gap"
        self.verdict.resets += kind == "reset"
        self.epoch = line["epoch"]
        self.at[self.epoch] = max(line["offset"], self.at.get(self.epoch, 0))
        self.told.append((line["t"], line["epoch"], line["offset"]))

    def _event(self, epoch, offset, name, when):
        self.verdict.events += 1
        what, last = f"{self.who}: {name} at {when:.3f} is offset {offset} of epoch {epoch}", self.at.get(epoch, 0)
        before = self.handed.get(name)
        self.handed[name] = (epoch, offset)
        if before is not None and before[0] == epoch:
            self.verdict.add("duplicated", f"{what}, and was offset {before[1]} before")
            if before[1] == offset:
                return
        elif before is not None:
            self.verdict.again += 1
        if self.epoch is None or self.ages[epoch] < self.ages[self.epoch]:
            self.verdict.add("reordered", f"{what}, but {self.epoch} had begun")
        elif offset <= last:
            self.verdict.add("reordered", f"{what}, after offset {last}")
        else:
            passed = set(range(last + 1, min(offset, last + 100_000))) - self.answered[epoch]
            if passed:
                self.verdict.add("holes", f"{what}, after offset {last}", len(passed))
            self.epoch, self.at[epoch] = epoch, offset
        self.delivered.setdefault((epoch, offset, name), when)


def _find_lost(verdict, client, acknowledged, ages, walked, seen, settled, who):
    if not walked.told:
        if acknowledged:
            verdict.add("lost", f"{who}: it never joined", len(acknowledged))
        return
    lost = []
    for one in acknowledged:
        arrived = walked.delivered.get((one.epoch, one.offset, one.id))
        if arrived is None:
            answers = [when for when, epoch, offset in walked.told
                       if ages[one.epoch] < ages[epoch] or (one.epoch == epoch and one.offset <= offset)]
            # Before its last event, or where it will never come any more.
            over = ages[one.epoch] < ages[walked.epoch] or (one.epoch == walked.epoch and one.offset < walked.at[one.epoch])
            if answers:
                verdict.late += one.t_sent > max(answers)
                arrived = min((when for when in answers if when >= one.t_sent), default=None)
            elif settled or over or (one.room, one.epoch) not in seen:
                lost.append(one)
        if arrived is not None and arrived - one.t_ack > verdict.worst:
            verdict.worst = arrived - one.t_ack
            verdict.worst_case = f"{who}, offset {one.offset} of epoch {one.epoch}, acknowledged at {one.t_ack:.3f}"
    for span in _spans(lost):
        verdict.add("lost", f"{who}: {_describe(span, client)}", len(span))


def _spans(lost):
    """Neighbours in lists of their own."""
    spans = []
    for one in sorted(lost, key=lambda one: (one.epoch, one.offset)):
        if spans and spans[-1][-1].epoch == one.epoch and spans[-1][-1].offset + 1 == one.offset:
            spans[-1].append(one)
        else:
            spans.append([one])
    return spans


def _describe(span, client):
    first, last = span[0], span[-1]
    several = len(span) > 1
    lines = [line for line in client.lines if line["kind"] not in ("unavailable", "refused")]
    before = [line for line in lines if line["t"] <= first.t_ack][-2:]
    after = [line for line in lines if line["t"] > first.t_ack][:3]

    def show(line):
        where = f" {line['epoch']}:{line['offset']}" if "epoch" in line else f" {line['code']}" if "code" in line else ""
        return f"{line['kind']}{where} at {line['t']:.3f}"
    offsets = f"offsets {first.offset} to {last.offset}" if several else f"offset {first.offset}"
    return (f"{offsets} of epoch {first.epoch} "
            f"({first.id}{' …' if several else ''}), acknowledged at {first.t_ack:.3f}"
            f"{f' to {last.t_ack:.3f}' if several else ''}, never came; it had {', '.join(map(show, before)) or 'nothing'}, then {', '.join(map(show, after)) or 'nothing'}")


def _measure_silence(verdict, acknowledged, clients):
    if not acknowledged:
        return
    begin, end = min(one.t_ack for one in acknowledged), max(one.t_ack for one in acknowledged)
    times = sorted(line["t"] for client in clients for line in client.lines if line["kind"] == "event")
    times = [begin] + [when for when in times if begin < when]
    for before, after in zip(times, times[1:] + [max(end, times[-1])]):
        if before < end and after - before > verdict.silence:
            verdict.silence, verdict.silence_at = after - before, before


def behind(acknowledged, lines, members=()):
    """{client: (position, what it should be)} of the clients that are neither at the last acknowledged publication of
    their room nor in a newer epoch; for waiting until everything has arrived."""
    clients, last, found = _by_client(lines, members), {}, {}
    ages = _ages(acknowledged, clients)
    for one in acknowledged:
        position = (ages[one.room][one.epoch], one.offset)
        last[one.room] = max(position, last.get(one.room, position))
    for client in clients:
        position = max(((ages[client.room][line["epoch"]], line["offset"]) for line in client.lines if "epoch" in line),
                       default=(-1, 0))
        if position < last.get(client.room, (-1, 0)):
            found[client.number] = (position, last[client.room])
    return found


def untold_since(lines, moment):
    """The clients that were told neither a gap nor a reset after a moment."""
    told = {line["c"] for line in lines if line["kind"] in ("gap", "reset") and line["t"] >= moment}
    return {line["c"] for line in lines} - told


# --- kept logs

def save(path, acknowledged):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(one._asdict()) + "\n" for one in acknowledged)


def load(path):
    with open(path, encoding="utf-8") as file:
        return [Acknowledged(**json.loads(line)) for line in file]
