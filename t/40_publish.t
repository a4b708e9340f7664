#!/usr/bin/python3
"""POST /publish as a backend uses it: what is answered, and what the members of the rooms get."""
import json
import os
import re
import sys
import threading
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, jwt, tap, wait_until              # noqa: E402
from rooms.backend import event                           # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402
from rooms.page import new_room, open_page                # noqa: E402
from rooms.wire import Wire                               # noqa: E402

SECRETS = ("the first secret of a backend, long enough", "the second one, which comes with the rotation")

server = Nginx(http="client_max_body_size 8m;", locations="""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow *; rooms_max_message 1m; }
    location = /publish { rooms_publish; }
    location = /small   { rooms_publish; client_body_buffer_size 1k; }
    location = /file    { rooms_publish; client_body_in_file_only clean; }
    location = /tiny    { rooms_publish; client_max_body_size 1k; }
    location = /one     { rooms_publish secret=@DIR@/one; }
    location = /two     { rooms_publish secret=@DIR@/two; }
    location = /near    { rooms_publish from=127.0.0.0/8; }
    location = /far     { rooms_publish from=192.0.2.0/24; }
    location = /status  { rooms_status; }
    location = /both    { rooms_publish secret=@DIR@/one from=127.0.0.0/8; }
    location = /stats   { rooms_status from=127.0.0.0/8; }
    location @publish   { rooms_publish; }
    location = /accel-uri      { add_header X-Accel-Redirect /publish; return 200; }
    location = /accel-name     { add_header X-Accel-Redirect @publish; return 200; }
    location = /user/accel-uri  { proxy_pass http://unix:@SOCK@:/accel-uri; }
    location = /user/accel-name { proxy_pass http://unix:@SOCK@:/accel-name; }
    location = /user/error-page { return 404; error_page 404 = /publish; }
    location = /user/error-name { return 404; error_page 404 = @publish; }
    location = /user/try-files  { try_files /nothing @publish; }
    location = /user/rewrite    { rewrite ^ /publish last; }
""", files={"secret": jwt.SECRET, "one": SECRETS[0] + "\n", "two": "\n".join(SECRETS) + "\n"})

small = Nginx(name="a small zone", http="rooms_zone small:1m;", locations="""
    location = /publish { rooms_publish; }
    location = /status  { rooms_status; }
""")

URLENCODED = "application/x-www-form-urlencoded"


def error_of(response, status, code):
    tap.is_(response.status, status, f"status of {response!r}")
    tap.is_(response.get("Content-Type"), "application/json", "Content-Type")
    tap.is_(sorted(response.json), ["error"], "the body's fields")
    tap.is_(sorted(response.json["error"]), ["code", "message"], "the error's fields")
    tap.is_(response.json["error"]["code"], code, "code")
    return response.json["error"]["message"]


def post(body, path="/publish", headers=(), content_type="application/json"):
    return http.publish(server, body, path=path, headers=headers, content_type=content_type, expect=None)


# --- what is sent, and what arrives

@tap.case("an event reaches the members of its room with type, room, offset and timestamp")
def _():
    room = new_room()
    with open_page(server, room) as page:
        response = post(event(room))
        tap.is_(response.status, 200, "status")
        tap.is_(response.get("Content-Type"), "application/json", "Content-Type")
        tap.is_(int(response.get("Content-Length")), len(response.body), "Content-Length")
        tap.ok(response.body.endswith(b"}\n"), "the body ends with a newline")
        answer = response.json
        tap.is_(sorted(answer), ["epoch", "offset", "room", "subscribers"], "fields of the answer")
        tap.is_((answer["room"], answer["offset"], answer["subscribers"]), (room, 1, 1), "answer")
        got = page.expect(type="x", room=room, offset=1, n=1, sessionId=room.split(":")[1])
        tap.ok(got["timestamp"] > 1.6e12, "timestamp in ms")
        tap.is_(sorted(got), ["n", "offset", "room", "sessionId", "timestamp", "type"], "fields of the event")
        second = post(event(room, 2)).json
        tap.is_((second["epoch"], second["offset"]), (answer["epoch"], 2), "the next answer")
        page.expect(type="x", offset=2, n=2)
        page.expect_nothing()


@tap.case("what curl -d sends is taken, and so is a body without a type or with a charset")
def _():
    room = new_room()
    with open_page(server, room) as page:
        for number, kind in enumerate((URLENCODED, None, "application/json; charset=utf-8", "Application/JSON",
                                       "application/json;charset=utf-8"), 1):
            tap.is_(post(event(room, number), content_type=kind).status, 200, f"status for {kind}")
            page.expect(type="x", n=number, offset=number)


@tap.case("data may be left out")
def _():
    room = new_room("build")
    with open_page(server, room) as page:
        tap.is_(post({"room": room, "type": "build:progress"}).status, 200, "status")
        page.expect(type="build:progress", buildId=room.split(":")[1], offset=1)


@tap.case("`rooms` sends to each room once, with an offset of its own, and answers for each in order")
def _():
    a, b, c = new_room(), new_room("ticket"), new_room()
    post(event(b))
    with open_page(server, a, c) as page, open_page(server, b) as other:
        answer = post({"rooms": [a, b, c, a], "type": "x", "data": {"n": 9}})
        tap.is_(answer.status, 200, "status")
        results = answer.json["results"]
        tap.is_([(r["room"], r["offset"], r["subscribers"]) for r in results], [(a, 1, 1), (b, 2, 1), (c, 1, 1)], "results")
        got = sorted((page.expect(n=9, offset=1) for _ in (a, c)), key=lambda event: event["room"])
        tap.is_([(e["room"], e["sessionId"]) for e in got], sorted((r, r.split(":")[1]) for r in (a, c)), "at a member of two")
        got = other.expect(room=b, n=9, ticketId=b.split(":")[1], offset=2)
        tap.ok("sessionId" not in got, "no id of another kind")
        page.expect_nothing()
        other.expect_nothing()


def batch_case(name, body_of, content_type):
    @tap.case(name)
    def _():
        a, b = new_room(), new_room()
        items = [event(a, 1), event(b, 2), event(a, 3)]
        with open_page(server, a, b) as page:
            response = post(body_of(items), content_type=content_type)
            tap.is_(response.status, 200, f"status of {response!r}")
            tap.is_([(r["room"], r["offset"]) for r in response.json["results"]], [(a, 1), (b, 1), (a, 2)], "results")
            got = sorted(page.expect(type="x")["n"] for _ in items)
            tap.is_(got, [1, 2, 3], "events")
            page.expect_nothing()


batch_case("an array of publications is a batch", json.dumps, "application/json")
batch_case("newline-delimited JSON is a batch", lambda items: "\n".join(map(json.dumps, items)) + "\n", "application/x-ndjson")
batch_case("newline-delimited JSON needs no type of its own", lambda items: "\n".join(map(json.dumps, items)), URLENCODED)


@tap.case("a batch of one is answered with a list of one")
def _():
    room = new_room()
    tap.is_(len(post([event(room)]).json["results"]), 1, "array")
    tap.is_(len(post(json.dumps(event(room)), content_type="application/x-ndjson").json["results"]), 1, "NDJSON")
    tap.is_(post("[]").json, {"results": []}, "an empty array")


@tap.case("in a batch a publication with `rooms` nests its results")
def _():
    a, b, c = new_room(), new_room(), new_room()
    results = post([event(a), {"rooms": [b, c], "type": "x"}]).json["results"]
    tap.is_(results[0]["room"], a, "the first")
    tap.is_([r["room"] for r in results[1]["results"]], [b, c], "the second")


@tap.case("in a batch the good ones are sent, the bad one has its error, and the status is the worst one's")
def _():
    room = new_room()
    with open_page(server, room) as page:
        post(event(room, 1, id="a"))
        page.expect(n=1)
        response = post([event(room, 2), event("nope"), event(room, 3, id="a"), event(room, 4)])
        tap.is_(response.status, 409, "status")
        results = response.json["results"]
        tap.is_([r.get("offset") for r in results], [2, None, None, 3], "offsets")
        tap.is_(results[1]["error"]["code"], "bad_room", "the second")
        tap.is_(results[2]["error"]["code"], "conflict", "the third")
        page.expect(n=2, offset=2)
        page.expect(n=4, offset=3)
        page.expect_nothing()
        response = post([event(room, 5), {"type": "x"}])
        tap.is_(response.status, 400, "status of one without a room")
        tap.is_(response.json["results"][1]["error"]["code"], "bad_field", "its error")
        page.expect(n=5)


@tap.case("all members on all workers get it, and `subscribers` counts them")
def _():
    room = new_room()
    pages = [open_page(server, room, worker=pid) for pid in server.workers() for _ in range(2)]
    answer = post(event(room, 7)).json
    tap.is_(answer["subscribers"], len(pages), "subscribers")
    for page in pages:
        page.expect(type="x", n=7, offset=1)
        page.expect_nothing()
    pages.pop().close()
    wait_until(lambda: post(event(room)).json["subscribers"] == len(pages), "the count to sink")
    for page in pages:
        page.drop()


# --- splice

@tap.case("numbers keep their digits, and nested values their spelling")
def _():
    room = new_room()
    spelt = [' "a" : 1.0', '"b":12345678901234567890123', '"c":-0.0e-0', '"d":{ "x":[1 ,2,  {"type":"deep"} ] }',
             '"e":"\\u00e9\\/\\ud83d\\ude00 \\"q\\""', '"f":"é😀"', '"g":null', '"h":1E400']
    with open_page(server, room) as page:
        body = '{"room":"%s","type":"x","data":{%s}}' % (room, ",".join(spelt))
        tap.is_(post(body).status, 200, "status")
        text = page.recv_text()
        for part in spelt:
            tap.ok(part.strip() in text, f"{part.strip()} as it was written in {text}")
        tap.is_(json.loads(text)["d"]["x"][2], {"type": "deep"}, "deep names are data's own")


@tap.case("R7: data cannot overwrite type, room, offset and timestamp, however it spells them")
def _():
    room = new_room()
    data = ('"type":"evil","room":"session:0","offset":99,"timestamp":1,"t\\u0079pe":"evil","\\u0072oom":"session:0",'
            '"off\\u0073et":99,"timest\\u0061mp":1,"kept":1')
    names = data.split(",")
    with open_page(server, room) as page:
        for number, part in enumerate(names[:8], 1):
            tap.is_(post('{"room":"%s","type":"x","data":{%s,"kept":1}}' % (room, part)).status, 200, part)
            text = page.recv_text()
            got = json.loads(text)
            tap.is_((got["type"], got["room"], got["offset"], got["kept"]), ("x", room, number, 1), part)
            tap.ok(got["timestamp"] > 1.6e12, "timestamp")
            tap.ok("evil" not in text and "session:0" not in text and "99" not in text.replace(str(got["timestamp"]), ""), f"nothing of it: {text}")
            tap.is_(json.loads(text, object_pairs_hook=lambda pairs: len(pairs) == len(dict(pairs))), True, "no name twice")


@tap.case("the room's id field is added unless data has it, the body's id wins over data's")
def _():
    room = new_room("ticket")
    with open_page(server, room) as page:
        post({"room": room, "type": "x", "data": {"ticketId": "own"}})
        page.expect(ticketId="own")
        post({"room": room, "type": "x", "data": {"id": "data's"}})
        page.expect(id="data's")
        post({"room": room, "type": "x", "data": {"id": "data's"}, "id": "body's"})
        page.expect(id="body's")
        post({"room": room, "type": "x", "data": {}, "key": "only for us"})
        tap.ok("only for us" not in page.recv_text(), "a key is not part of the event")


# --- repeats

@tap.case("a repeated id is answered as the first time with duplicate:true, and sends nothing")
def _():
    room = new_room()
    with open_page(server, room) as page:
        for name in ("id", "key"):
            first = post(event(room, **{name: "r-" + name})).json
            page.expect(type="x", offset=first["offset"])
            again = post(event(room, **{name: "r-" + name}))
            tap.is_(again.status, 200, "status")
            tap.is_(again.json, dict(first, duplicate=True), "answer")
        page.expect_nothing()


@tap.case("the same id with another body is 409, in another room it is another id")
def _():
    a, b = new_room(), new_room()
    with open_page(server, a, b) as page:
        post(event(a, 1, id="same"))
        page.expect(room=a)
        error_of(post(event(a, 2, id="same")), 409, "conflict")
        tap.is_(post(event(b, 3, id="same")).json["offset"], 1, "another room")
        page.expect(room=b, n=3)
        page.expect_nothing()


@tap.case("the header Idempotency-Key does as `key` does")
def _():
    room = new_room()
    headers = {"Idempotency-Key": "from the header"}
    with open_page(server, room) as page:
        first = post(event(room), headers=headers).json
        tap.is_(post(event(room), headers=headers).json, dict(first, duplicate=True), "repeat")
        error_of(post(event(room, 2), headers=headers), 409, "conflict")
        text = page.recv_text()
        tap.ok("from the header" not in text, "the event does not carry it")
        page.expect_nothing()
        tap.is_(post(event(room, 3, key="from the header"), headers=headers).status, 409, "the same key in the body")
        message = error_of(post(event(room, key="another"), headers=headers), 400, "bad_field")
        tap.like(message, r"key.*Idempotency-Key", "both are named")
        for value in ("", "x" * 201):
            tap.like(error_of(post(event(room), headers={"Idempotency-Key": value}), 400, "bad_field"), "Idempotency-Key")
        twice = [("Idempotency-Key", "a"), ("idempotency-key", "a")]
        tap.like(error_of(post(event(room), headers=twice), 400, "bad_field"), "Idempotency-Key")
        page.expect_nothing()


@tap.case("the body's id wins over the header")
def _():
    room = new_room()
    tap.is_(post(event(room, id="i"), headers={"Idempotency-Key": "h"}).json["offset"], 1, "first")
    tap.is_(post(event(room, id="i"), headers={"Idempotency-Key": "other"}).json.get("duplicate"), True, "same id")
    tap.is_(post(event(room, id="i2"), headers={"Idempotency-Key": "h"}).json["offset"], 2, "another id")


@tap.case("with the header a batch may be repeated whole, and its publications are told apart")
def _():
    room = new_room()
    headers = {"Idempotency-Key": "batch"}
    with open_page(server, room) as page:
        first = post([event(room, 1), event(room, 1), event(room, 2)], headers=headers).json["results"]
        tap.is_([r["offset"] for r in first], [1, 2, 3], "offsets")
        again = post([event(room, 1), event(room, 1), event(room, 2)], headers=headers)
        tap.is_(again.json["results"], [dict(r, duplicate=True) for r in first], "repeat")
        for number in (1, 1, 2):
            page.expect(n=number)
        page.expect_nothing()


@tap.case("a key of `rooms` counts in each room")
def _():
    a, b = new_room(), new_room()
    body = {"rooms": [a, b], "type": "x", "key": "k"}
    first = post(body).json["results"]
    tap.is_(post(body).json["results"], [dict(r, duplicate=True) for r in first], "repeat")


@tap.case("of the same publications sent at once to all workers, one of each is taken")
def _():
    room = new_room()
    workers = server.workers()
    pages = [open_page(server, room, worker=pid) for pid in workers]
    answers, lock = [], threading.Lock()

    def send():
        for number in range(30):
            got = http.publish(server, event(room, number, id=f"p{number}"))
            with lock:
                answers.append((number, got["offset"], got.get("duplicate", False)))
    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tap.is_(len(answers), 180, "answers")
    offsets = {}
    for number, offset, _ in answers:
        tap.is_(offsets.setdefault(number, offset), offset, f"offset of {number}")
    tap.is_(sorted(offsets.values()), list(range(1, 31)), "offsets")
    tap.is_(sum(not duplicate for _, _, duplicate in answers), 30, "first answers")
    for page in pages:
        tap.is_([page.expect(type="x")["offset"] for _ in range(30)], list(range(1, 31)), "offsets at a member")
        page.expect_nothing()
        page.drop()


# --- what is refused

BAD = [
    ("no JSON", "nope", "bad_json", "byte 0|byte 1"),
    ("an empty body", "", "bad_json", "empty"),
    ("white space alone", " \n ", "bad_json", "empty"),
    ("a cut off body", '{"room":"session:1"', "bad_json", "byte"),
    ("something behind", '{"room":"session:1","type":"x"}x', "bad_json", ""),
    ("a string", '"x"', "bad_json", "an object"),
    ("a NUL", '{"room":"session:1","type":"x\0"}', "bad_json", "0x00"),
    ("bad UTF-8", b'{"room":"session:1","type":"x","data":{"a":"\xff"}}', "bad_json", "UTF-8"),
    ("a lone surrogate", '{"room":"session:1","type":"x","data":{"a":"\\ud800"}}', "bad_json", "surrogate"),
    ("too deep", '{"room":"session:1","type":"x","data":{"a":%s}}' % ("[" * 20 + "]" * 20), "bad_json", "dee?p|depth"),
    ("a name twice", '{"room":"session:1","type":"x","type":"y"}', "bad_json", '"type"'),
    ("a name twice in data", '{"room":"session:1","type":"x","data":{"a":1,"a":2}}', "bad_json", '"a"'),
    ("no room", {"type": "x"}, "bad_field", "room"),
    ("no type", {"room": "session:1"}, "bad_field", "type"),
    ("room and rooms", {"room": "session:1", "rooms": ["session:1"], "type": "x"}, "bad_field", "rooms"),
    ("room no string", {"room": 1, "type": "x"}, "bad_field", "^room "),
    ("rooms no array", {"rooms": "session:1", "type": "x"}, "bad_field", "^rooms "),
    ("rooms empty", {"rooms": [], "type": "x"}, "bad_field", "^rooms "),
    ("rooms with a number", {"rooms": ["session:1", 2], "type": "x"}, "bad_field", r"^rooms\[1\]"),
    ("too many rooms", {"rooms": [f"session:{n}" for n in range(1001)], "type": "x"}, "bad_field", "1000"),
    ("type no string", {"room": "session:1", "type": None}, "bad_field", "^type "),
    ("type empty", {"room": "session:1", "type": ""}, "bad_field", "^type "),
    ("type too long", {"room": "session:1", "type": "x" * 129}, "bad_field", "^type .*128"),
    ("data no object", {"room": "session:1", "type": "x", "data": []}, "bad_field", "^data "),
    ("id no string", {"room": "session:1", "type": "x", "id": 1}, "bad_field", "^id "),
    ("id too long", {"room": "session:1", "type": "x", "id": "x" * 201}, "bad_field", "^id .*200"),
    ("key empty", {"room": "session:1", "type": "x", "key": ""}, "bad_field", "^key "),
    ("an unknown field", {"room": "session:1", "type": "x", "dta": {}}, "bad_field", '"dta"'),
    ("room without a kind", {"room": "1", "type": "x"}, "bad_room", "^room: .*kind:id"),
    ("room with upper case", {"room": "Session:1", "type": "x"}, "bad_room", "^room"),
    ("room without an id", {"room": "session:", "type": "x"}, "bad_room", "^room"),
    ("room with CR LF", {"room": "session:1\r\nX-Evil: 1", "type": "x"}, "bad_room", "^room"),
    ("room too long", {"room": "session:" + "x" * 201, "type": "x"}, "bad_room", "^room"),
    ("a bad one of rooms", {"rooms": ["session:1", "a b"], "type": "x"}, "bad_room", r"^rooms\[1\]"),
]


def bad_case(body, code, pattern):
    response = post(body)
    message = error_of(response, 400, code)
    tap.like(message, pattern, "the message names it")
    tap.is_(response.get("X-Evil"), None, "no header of the body's making")


for what, body, code, pattern in BAD:
    tap.add(f"400 {code}: {what}", bad_case, body, code, pattern)


@tap.case("S64: 405 for every method but POST, and no CORS headers for anybody")
def _():
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        response = http.request(server, method, "/publish")
        tap.is_(response.status, 405, method)
        tap.is_(response.get("Allow"), "POST", f"Allow for {method}")
        if method != "HEAD":
            error_of(response, 405, "method_not_allowed")
    preflight = http.request(server, "OPTIONS", "/publish", {"Origin": "https://evil.example",
                                                             "Access-Control-Request-Method": "POST"})
    tap.is_(preflight.status, 405, "preflight")
    for response in (preflight, post(event(new_room()))):
        tap.unlike(response.head.decode(), "(?i)access-control", "headers")


@tap.case("S56: 415 for a body of another type")
def _():
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/jsonx", "application/json-seq", "x"):
        error_of(post(event("session:1"), content_type=kind), 415, "unsupported_media_type")


@tap.case("broken JSON behind good publications fails the whole body, and nothing is sent")
def _():
    room = new_room()
    good = json.dumps(event(room))
    with open_page(server, room) as page:
        for body in (good + "\n{bad}\n", f"[{good}, {{bad}}]", good + "\n" + good[:-2]):
            error_of(post(body), 400, "bad_json")
        page.expect_nothing()


@tap.case("415 for a body in a content coding, which is named; identity is none")
def _():
    room = new_room()
    for coding in ("gzip", "br", "identity, gzip"):
        message = error_of(post(event(room), headers={"Content-Encoding": coding}), 415, "unsupported_media_type")
        tap.like(message, f"Content-Encoding.* {coding}$", "message")
    error_of(post(event(room), headers={"Content-Encoding": "\xff\x01"}), 415, "unsupported_media_type")
    tap.is_(post(event(room), headers={"Content-Encoding": "Identity"}).json["offset"], 1, "offset")


FOREIGN = [("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin"), ("X-Forwarded-For", "127.0.0.1"),
           ("Forwarded", "for=127.0.0.1"), ("Via", "1.1 proxy"), ("X-Real-IP", "127.0.0.1")]


def foreign_case(name, value):
    room = new_room()
    with open_page(server, room) as page:
        for spelling in (name, name.lower()):
            error_of(post(event(room), headers=[(spelling, value)]), 403, "forbidden")
        server.wait_log(rf'rooms: "rooms_publish" .*"{name}"')
        page.expect_nothing()


for name, value in FOREIGN:
    tap.add(f"S57: 403 for a local peer whose request has {name}; the log names it", foreign_case, name, value)


@tap.case("a unix socket is local")
def _():
    tap.is_(http.publish(server, event(new_room()), unix=True)["offset"], 1, "offset")


@tap.case("S59 R6: with a secret: 401 without it, 200 with it, also from behind a proxy")
def _():
    room = new_room()
    bearer = ("Authorization", "Bearer " + SECRETS[0])
    for headers in ([], [("Authorization", "Bearer nope")], [("Authorization", "Bearer " + SECRETS[0] + "x")],
                    [("Authorization", "Bearer " + SECRETS[1])], [("Authorization", "Bearer ")],
                    [("Authorization", "Basic " + SECRETS[0])], [("Authorization", SECRETS[0])]):
        response = post(event(room), path="/one", headers=headers)
        error_of(response, 401, "unauthorized")
        tap.is_(response.get("WWW-Authenticate"), "Bearer", "WWW-Authenticate")
    tap.is_(post(event(room), path="/one", headers=[bearer]).json["offset"], 1, "with it")
    tap.is_(post(event(room), path="/one", headers=[bearer, ("X-Forwarded-For", "192.0.2.1")]).status, 200, "proxied")
    for secret in SECRETS:
        tap.unlike(server.log(), secret, "the error log")


@tap.case("S59: two lines in the file are two secrets")
def _():
    room = new_room()
    for number, secret in enumerate(SECRETS, 1):
        answer = post(event(room), path="/two", headers={"Authorization": "Bearer " + secret})
        tap.is_((answer.status, answer.json["offset"]), (200, number), "answer")
    error_of(post(event(room), path="/two", headers={"Authorization": "Bearer " + "\n".join(SECRETS)[:20]}), 401, "unauthorized")


@tap.case("from= takes its networks and refuses the others")
def _():
    tap.is_(post(event(new_room()), path="/near", headers={"X-Forwarded-For": "192.0.2.1"}).status, 200, "inside")
    error_of(post(event(new_room()), path="/far"), 403, "forbidden")


@tap.case("S57: from= without a secret refuses what comes from a browser, and the log names header and directive")
def _():
    room = new_room()
    with open_page(server, room) as page:
        for name, value in FOREIGN[:2]:
            error_of(post(event(room), path="/near", headers=[(name, value)], content_type=None), 403, "forbidden")
            server.wait_log(rf'rooms: "rooms_publish" refused a request that has the header "{name}".*"secret="')
            tap.is_(http.request(server, "GET", "/stats", [(name, value)]).status, 403, f"status page, {name}")
            server.wait_log(rf'rooms: "rooms_status" refused a request that has the header "{name}"')
        page.expect_nothing()
        for name, value in FOREIGN[2:]:
            tap.is_(post(event(room), path="/near", headers=[(name, value)]).status, 200, name)
        bearer = ("Authorization", "Bearer " + SECRETS[0])
        tap.is_(post(event(room), path="/both", headers=[bearer, FOREIGN[0]]).status, 200, "with the secret")


@tap.case("S61: no way inside of nginx leads a user's request to the endpoint")
def _():
    room = new_room()
    with open_page(server, room) as page:
        for way in ("accel-uri", "accel-name", "error-page", "error-name", "try-files", "rewrite"):
            tap.in_(post(event(room), path="/user/" + way).status, (403, 405), f"status for {way}")
        server.wait_log('rooms: "rooms_publish" refused an internal redirect or subrequest')
        page.expect_nothing()


@tap.case("an event too large for the zone is 413, a body over client_max_body_size too")
def _():
    tap.is_(post({"room": new_room(), "type": "x", "data": {"a": "x" * 2000}}, path="/tiny").status, 413, "nginx's limit")
    big = {"rooms": [f"session:big{n}" for n in range(1000)], "type": "x", "data": {"a": "x" * 100000}}
    error_of(post(big), 413, "too_large")


@tap.zone_case("a zone full of young ids refuses a publication with an id: 503, Retry-After, and a log line that says what to raise")
def _():
    cap = http.status(small)["zone"]["ids"]["cap"]
    for start in range(0, cap, 1000):
        batch = [event("session:1", number, id=f"i{number}") for number in range(start, min(start + 1000, cap))]
        http.publish(small, batch)
    tap.is_(http.status(small)["zone"]["ids"]["used"], cap, "ids in use")
    since = len(small.log())
    for number in range(5):
        response = http.publish(small, event("session:1", number, id="one more"), expect=None)
        tap.like(error_of(response, 503, "unavailable"), "rooms_zone", "the message names the directive")
        tap.is_(response.get("Retry-After"), "1", "Retry-After")
    tap.like(small.log()[since:], r'\[error\].* rooms: publish to "session:1" refused: .*rooms_zone', "log line")
    tap.ok(len(re.findall(r"\[error\]", small.log()[since:])) <= 3, "at most one line a second")
    tap.is_(http.publish(small, event("session:1"))["offset"], cap + 1, "without an id it is taken")
    tap.is_(http.publish(small, event("session:1", 0, id="i0"))["offset"], 1, "a repeat is still known")
    response = http.publish(small, [event("session:1"), event("session:1", id="two more")], expect=None)
    tap.is_((response.status, response.get("Retry-After")), (503, "1"), "a batch with one of each")
    tap.is_(response.json["results"][0]["offset"], cap + 2, "its first")
    tap.is_(response.json["results"][1]["error"]["code"], "unavailable", "its second")


@tap.zone_case("a zone without a place for another room refuses it with 503, and takes what goes to the rooms it has")
def _():
    zone = http.status(small)["zone"]["rooms"]
    names = [f"session:f{number}" for number in range(zone["cap"] - zone["used"] + 3)]
    response = http.publish(small, {"rooms": names, "type": "x"}, expect=None)
    tap.is_(response.status, 503, "status")
    results = response.json["results"]
    tap.is_([result.get("offset") for result in results], [1] * (len(names) - 3) + [None] * 3, "offsets")
    tap.like(results[-1]["error"]["message"], "rooms_zone", "the message names the directive")
    tap.is_(http.status(small)["zone"]["rooms"]["used"], zone["cap"], "rooms")
    tap.is_(http.publish(small, event(names[0]))["offset"], 2, "a room it has")


@tap.zone_case("an event larger than the zone takes is 413 and names the directive")
def _():
    response = http.publish(small, {"room": "session:1", "type": "x", "data": {"a": "x" * 600000}}, expect=None)
    tap.like(error_of(response, 413, "too_large"), "rooms_zone", "message")


# --- bodies and connections

@tap.case("bodies in a temporary file, in parts or of many segments are as good as those in memory")
def _():
    room = new_room()
    text = "".join(chr(ord("a") + n % 26) for n in range(300000))
    with open_page(server, room) as page:
        for number, path in enumerate(("/small", "/file", "/publish"), 1):
            body = {"room": room, "type": "x", "data": {"text": text, "path": path}}
            tap.is_(post(body, path=path).json["offset"], number, path)
            tap.is_(page.expect(path=path)["text"], text, f"text through {path}")
    server.wait_log("a client request body is buffered to a temporary file")


@tap.case("a chunked body is taken")
def _():
    room = new_room()
    body = json.dumps(event(room)).encode()
    head = b"POST /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:8], body[8:])) + b"0\r\n\r\n"
    tap.is_(http.raw(server, head + chunks).json["offset"], 1, "offset")


@tap.case("Expect: 100-continue is answered before the body, and not before a refusal")
def _():
    body = json.dumps(event(new_room())).encode()
    for path, first in (("/publish", b"HTTP/1.1 100 "), ("/far", b"HTTP/1.1 403 ")):
        wire = Wire(http.address_of(server))
        wire.send(http.request_octets("POST", path, {"Expect": "100-continue", "Content-Length": str(len(body))}))
        tap.is_(wire.take_until(b"\r\n\r\n")[:13], first, path)
        if path == "/publish":
            wire.send(body)
            tap.is_(http.read_response(wire).status, 200, "final status")
        wire.close()


@tap.case("one connection carries many publications, refusals between them, and pipelined ones")
def _():
    room = new_room()
    wire = Wire(http.address_of(server))

    def octets(method, path, body):
        return http.request_octets(method, path, {}, body.encode(), connection="keep-alive")
    good = json.dumps(event(room))
    requests = [("POST", "/publish", good, 200), ("GET", "/publish", "", 405), ("POST", "/publish", "x", 400),
                ("PUT", "/publish", good, 405), ("POST", "/far", good, 403), ("POST", "/one", good, 401),
                ("POST", "/small", json.dumps(event(room, "y" * 5000)), 200), ("POST", "/publish", good, 200)]
    for method, path, body, status in requests:
        wire.send(octets(method, path, body))
        tap.is_(http.read_response(wire).status, status, f"{method} {path}")
    wire.send(b"".join(octets(method, path, body) for method, path, body, _ in requests))
    for method, path, body, status in requests:
        tap.is_(http.read_response(wire).status, status, f"pipelined {method} {path}")
    wire.close()
    tap.is_(post(event(room)).json["offset"], 7, "offset after six")


@tap.case("a backend that hangs up in the middle of its body publishes nothing")
def _():
    room = new_room()
    with open_page(server, room) as page:
        body = json.dumps(event(room)).encode()
        for size in (0, 1, len(body) - 1):
            wire = Wire(http.address_of(server))
            wire.send(http.request_octets("POST", "/publish", {"Content-Length": str(len(body))}) + body[:size])
            wire.close()
        tap.is_(post(event(room)).json["offset"], 1, "offset")
        page.expect(offset=1)


@tap.case("S56: a body of more than a mebibyte is 413 where nothing else is said; one of just that size is taken")
def _():
    body = json.dumps(event("session:1"))
    for size, status in ((1 << 20, 200), ((1 << 20) + 1, 413)):
        tap.is_(http.publish(small, body + " " * (size - len(body)), expect=None).status, status, f"{size} bytes")
    small.wait_log("client intended to send too large body")


@tap.case("S55: a publication may be 16 deep, and no deeper")
def _():
    for depth, status in ((14, 200), (15, 400)):
        body = '{"room":"%s","type":"x","data":{"a":%s}}' % (new_room(), "[" * depth + "]" * depth)
        tap.is_(post(body).status, status, f"{depth + 2} deep")


@tap.case("S63: line breaks, NUL and commands of Redis in a publication stay text: all is told as it was, and the next offset is the next")
def _():
    room = new_room()
    evil = "x\r\n*1\r\n$8\r\nFLUSHALL\r\nX-Evil: 1\r\n\r\n\x1b]"
    with open_page(server, room) as page:
        for number, text in enumerate((evil, evil + "\0"), 1):
            response = post({"room": room, "type": text, "data": {text: text, "n": number}, "id": text})
            tap.is_((response.status, response.json["offset"]), (200, number), f"answer {response!r}")
            tap.is_(response.get("X-Evil"), None, "no header of the body's making")
            got = page.expect(type=text, id=text, n=number, offset=number)
            tap.is_(got[text], text, "a name and a value of data")
            tap.is_(post({"room": room, "type": text, "data": {text: text, "n": number}, "id": text}).json.get("duplicate"), True, "its repeat")
        page.send_json(type="subscribe", room=room, ref=evil)
        page.expect(type="subscribed", ref=evil, offset=2)
        for name in (room + evil, room + "\0", evil):
            page.send_json(type="subscribe", room=name)
            page.expect(type="error", code="bad_room")
            error_of(post({"room": name, "type": "x"}), 400, "bad_room")
        tap.is_(post(event(room, 3)).json["offset"], 3, "the next")
        page.expect(n=3, offset=3)
        page.expect_nothing()


@tap.case("S65: no error says anything of what is inside: only its code and what the client did")
def _():
    answers = [post(body) for _, body, _, _ in BAD]
    answers += [post(event("session:1"), path=path) for path in ("/far", "/one", "/two")]
    answers += [post(event("session:1"), content_type="text/plain"), http.request(server, "PUT", "/publish"),
                post(event("session:1"), headers=[("Idempotency-Key", "x" * 201)]), post(event("session:1"), headers=[FOREIGN[0]]),
                post({"rooms": [f"session:big{n}" for n in range(1000)], "type": "x", "data": {"a": "x" * 100000}})]
    tap.is_(sorted({answer.status for answer in answers}), [400, 401, 403, 405, 413, 415], "statuses")
    inside = "|".join(re.escape(word) for word in (server.dir, "/etc/", ".cpp", ".hpp", "std::", "127.0.0.1", "unix:", *SECRETS))
    for answer in answers:
        error_of(answer, answer.status, answer.json["error"]["code"])
        tap.unlike(answer.text, inside, "the body")
        tap.unlike(answer.text, "(?i)nginx|exception|stack trace|errno", "the body")


@tap.case("S61: whatever Host or URI a request names, there is one zone")
def _():
    room = new_room()
    for offset, host in enumerate(("localhost", "other.example", "[::1]:81", "rooms"), 1):
        tap.is_(http.request(server, "POST", "/publish", {"Content-Type": "application/json"}, json.dumps(event(room)), host=host).json["offset"],
                offset, f"Host: {host}")
    body = json.dumps(event(room)).encode()
    octets = b"POST http://elsewhere.example/publish?zone=other HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    tap.is_(http.raw(server, octets + body).json["offset"], 5, "an absolute URI")


@tap.case("S69: what is in a publication does not reach the log")
def _():
    post({"room": new_room(), "type": "x", "data": {"a": "a secret of the session"}, "id": "l"})
    post({"room": "nope", "type": "x", "data": {"a": "a secret of the session"}})
    post('{"room":"session:1","type":"x","data":{"a":"a secret of the session"')
    tap.unlike(server.log(), "a secret of the session", "the error log")


tap.run()
