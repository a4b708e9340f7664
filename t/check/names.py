# The names that the source gives to the outside world, read from its tables.
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _read(pattern):
    return "\n".join(path.read_text() for path in sorted((ROOT / "src").glob(pattern)))


def directives():
    tables = re.findall(r"ngx_command_t \w+\[\] = \{(.*?)^\};", _read("nginx/*.cpp"), re.MULTILINE | re.DOTALL)
    return set(re.findall(r'ngx_string\("(rooms\w*)"\)', "".join(tables)))


def variables():
    """A name that ends in _ is a prefix: $rooms_claim_NAME."""
    tables = re.findall(r"ngx_http_variable_t \w+\[\] = \{(.*?)^\};", _read("nginx/*.cpp"), re.MULTILINE | re.DOTALL)
    parts = re.findall(r'name == "(rooms_room\w*)"', _read("nginx/conf_rooms.cpp"))   # known to rooms_allow only
    return set(re.findall(r'ngx_string\("(rooms\w*)"\)', "".join(tables))) | set(parts)


def error_codes():
    """Of `error` frames: the spelling of ErrorCode."""
    return set(re.findall(r'case ErrorCode::\w+:\s*return "(\w+)"', _read("core/*.cpp")))


def http_error_codes():
    """Of {"error":{"code":…}}: the word behind the status in the calls that answer with one."""
    parsing = re.findall(r'case PublishCode::\w+:\s*return "(\w+)"', _read("core/*.cpp"))
    return set(parsing) | set(re.findall(r'(?:answer_error\(r, NGX_HTTP_\w+|http_error\(NGX_HTTP_\w+|append_http_error\(out|\brefuse\(r), "(\w+)"',
                          re.sub(r"\s+", " ", _read("nginx/*.cpp"))))


def close_codes():
    return set(re.findall(r"=\s*(\d{4}),", _read("core/close_code.hpp")))


def metrics():
    return set(re.findall(r'\.(?:gauge|counter|histogram)\(\s*"(rooms_\w+)"', _read("nginx/*.cpp")))


def sql_names():
    """Tables, functions, checks and channels of the migrations."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "migrations").glob("*.up.sql")))
    return set(re.findall(r"(?:create table if not exists|create or replace function|constraint) (rooms_\w+)", text)
               + re.findall(r"pg_notify\('(rooms_\w+)'", text))
