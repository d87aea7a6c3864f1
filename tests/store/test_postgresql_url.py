"""URLs of PostgreSQL databases: the forms of libpq, parsed strictly, without any part of a password in a message."""

import pytest
import sqlalchemy as sa

from phasesync.errors import SettingsError
from phasesync.store.database_url import parse_database_url
from phasesync.store.db_errors import translate


def parameters(text: str) -> dict[str, object]:
    """The parameters of the client library for a URL, apart from those that we always set."""
    url = parse_database_url(text)
    _, arguments = sa.create_engine(url).dialect.create_connect_args(url)
    return {name: value for name, value in arguments.items() if name != "context"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:p@h:5433/d", {"host": "h", "port": 5433, "user": "u", "password": "p", "dbname": "d"}),
        ("postgresql://u@h/d\n", {"host": "h", "user": "u", "dbname": "d"}),
        ("  postgres://h/d \r\n", {"host": "h", "dbname": "d"}),
        ("postgresql:///d", {"dbname": "d"}),
        ("postgresql://u:a%40b%2Fc%3F%23@h/d", {"host": "h", "user": "u", "password": "a@b/c?#", "dbname": "d"}),
        ("postgresql://u:50%25&x=y;z@h/d", {"host": "h", "user": "u", "password": "50%&x=y;z", "dbname": "d"}),
        ("postgresql://u:50%@h/d", {"host": "h", "user": "u", "password": "50%", "dbname": "d"}),
        ("postgresql://u:a:b@h/d", {"host": "h", "user": "u", "password": "a:b", "dbname": "d"}),
        ("postgresql://@/d?host=/run/pg", {"host": "/run/pg", "dbname": "d"}),
        ("postgresql://%2Frun%2Fpg/d", {"host": "/run/pg", "dbname": "d"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433", "dbname": "d"}),
        ("postgresql://h/d?sslmode=verify-full&ssl=true", None),
        ("postgresql://h/d?ssl=true", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql://h/d?user=u&password=p%20q", {"host": "h", "dbname": "d", "user": "u", "password": "p q"}),
        ("postgresql://h/d?options=-csearch_path%3Dx", {"host": "h", "dbname": "d", "options": "-csearch_path=x"}),
    ],
)
def test_a_url_means_what_libpq_says(text, expected):
    if expected is None:
        with pytest.raises(SettingsError, match="sslmode is given twice"):
            parameters(text)
    else:
        assert parameters(text) == expected


PRIMARY = {"target_session_attrs": "read-write"}
ANY = {"target_session_attrs": "any"}
UNKNOWN = [("schema", "search_path"), ("pgbouncer", "leave it out"), ("foo", "libpq")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2", **PRIMARY}),
        ("postgresql://a,b/d", {"host": "a,b", "port": ",", **PRIMARY}),
        ("postgresql://a,b:2/d", {"host": "a,b", "port": ",2", **PRIMARY}),
        ("postgresql://[::1]:1,[fe80::2]/d", {"host": "::1,fe80::2", "port": "1,", **PRIMARY}),
        ("postgresql:///d?host=a,b&port=1,2", {"host": "a,b", "port": "1,2", **PRIMARY}),
        ("postgresql:///d?host=a:1&host=b:2", {"host": "a,b", "port": "1,2", **PRIMARY}),
        ("postgresql:///d?host=a,b&port=7", {"host": "a,b", "port": "7,7", **PRIMARY}),
        ("postgresql:///d?host=/run/a,b", {"host": "/run/a,b", "port": ",", **PRIMARY}),
        (
            "postgresql://a:1,b:2/d?target_session_attrs=any",
            {"host": "a,b", "port": "1,2", "target_session_attrs": "any"},
        ),
    ],
)
def test_several_hosts_are_those_that_the_primary_is_looked_for_among(text, expected):
    assert parameters(text) == {"dbname": "d", **expected}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:pa@hunter2@h/d",
        "postgresql://u:pa/hunter2@h/d",
        "postgresql://u:12/hunter2@h/d",
        "postgresql://u:pa?hunter2=x@h/d",
        "postgresql://u:12?hunter2=x@h/d",
        "postgresql://u:pa?x=hunter2@h/d",
        "postgresql://u:pa[hunter2@h/d?x",
        "postgresql://u:pa hunter2@h/d",
        "postgresql://u:hunter2/d",
        "postgresql://u:p@h:hunter2/d",
        "postgresql://u:p@hunter2!/d",
        "postgresql://u:p@h/d/hunter2",
        "postgresql://u:hunter2@h/d?port=x",
        "postgresql://u:hunter2@h:0/d",
        "postgresql://u:hunter2@h:70000/d",
        "postgresql://u:hunter2@[h/d",
        "postgresql://u:hunter2@h,h2/d?port=1,2,3",
        "postgresql://u:hunter2@h/d?sslmode",
        "postgresql://u:hunter2@h/d?sslmode=a&sslmode=b",
        "postgresql://u:hunter2@h/d?connect_timeout=soon",
        "postgresql://u:hunter2@h/d?host=hunter2!",
        "postgresql:u:hunter2@h/d",
    ],
)
def test_a_url_that_does_not_parse_strictly_is_refused_and_no_part_of_it_is_repeated(text):
    with pytest.raises(SettingsError) as caught:
        parameters(text)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "not usable" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("option", "hint"), [("schema", "search_path"), ("pgbouncer", "leave it out"), ("foo", "libpq")]
)
def test_an_unknown_option_is_named(option, hint):
    with pytest.raises(SettingsError, match=f"no option {option}") as caught:
        parse_database_url(f"postgresql://u:hunter2@h/d?{option}=x")
    assert hint in str(caught.value.hint)


def test_messages_name_hosts_and_database_and_nothing_else():
    error = translate(sa.exc.InterfaceError("x", {}, Exception()), parse_database_url("postgresql://u:hunter2@a:1,b/d"))
    assert "a:1,b/d" in str(error)
    assert "hunter2" not in str(error)
