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
    return set(re.findall(r'ngx_string\("(rooms_\w+)"\),\s*(?!NGX_)', _read("nginx/*.cpp")))


def error_codes():
    """Of `error` frames: the spelling of ErrorCode."""
    return set(re.findall(r'case ErrorCode::\w+:\s*return "(\w+)"', _read("core/*.cpp")))


def http_error_codes():
    return set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', "\n".join(
        re.findall(r"(?:refuse|answer_error|http_error|send_error)\(([^;]*?)\);", _read("nginx/*.cpp")))))


def close_codes():
    return set(re.findall(r"=\s*(\d{4}),", _read("core/close_code.hpp")))


def metrics():
    names = set(re.findall(r"\brooms_[a-z_]+[a-z]", _read("nginx/status*.cpp") + _read("core/status*.cpp")))
    return names - directives() - variables()
