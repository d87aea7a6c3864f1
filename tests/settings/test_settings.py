"""What can be set, and where it comes from."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.errors import SettingsError
from phasesync.settings import Settings, load_settings, model
from phasesync.settings.model import ENVIRONMENT_ONLY, setting_names, variable_of
from phasesync.store.database_url import parse_database_url

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_defaults(home):
    loaded = load_settings(environ={"HOME": str(home)})
    assert loaded.settings.data_dir == home / ".local/share/phasesync"
    assert loaded.settings.database_url == f"sqlite:///{home}/.local/share/phasesync/phasesync.db"
    assert loaded.settings.root_key_file == home / ".config/phasesync/root.key"
    assert (loaded.settings.http.host, loaded.settings.http.port) == ("127.0.0.1", 8787)
    assert loaded.warnings == ()
    assert loaded.source is None


def test_flags_win_over_the_environment_over_the_file_over_the_default(tmp_path):
    config = written(
        tmp_path / "c.toml",
        "[daemon]\nworkers = 2\ncoalesce_ms = 2\npoll_interval_ms = 20\n",
    )
    environ = {"PHASESYNC_DAEMON__WORKERS": "3", "PHASESYNC_DAEMON__COALESCE_MS": "3"}
    daemon = load_settings(config, environ, {"daemon.workers": 4}).settings.daemon
    assert (daemon.workers, daemon.coalesce_ms, daemon.poll_interval_ms, daemon.drain_s) == (4, 3, 20, 8)


def test_windows_are_a_list_or_a_variable_with_semicolons(tmp_path):
    config = written(tmp_path / "c.toml", "[daemon]\nwindows = ['deny: 8:00-9:00 mon', 'allow: 2026-01-01']\n")
    environ = {"PHASESYNC_DAEMON__WINDOWS": "deny: 22:00-04:00 Sat,Sun; allow: 01:00-02:00 Europe/Berlin"}

    assert load_settings(config, {}).settings.daemon.windows == ("deny: 08:00-09:00 Mon UTC", "allow: 2026-01-01 UTC")
    assert load_settings(config, environ).settings.daemon.windows == (
        "deny: 22:00-04:00 Sat,Sun UTC",
        "allow: 01:00-02:00 Europe/Berlin",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [("7", "daemon.windows: must be a list of texts"), ("['deny: 08:00-18:00 Mno-Fri']", "did you mean Mon")],
)
def test_a_wrong_window_is_refused(tmp_path, value, said):
    config = written(tmp_path / "c.toml", f"[daemon]\nwindows = {value}\n")

    with pytest.raises(SettingsError, match=said):
        load_settings(config, {})


def test_the_database_lies_in_the_data_directory_unless_it_is_named(tmp_path):
    environ = {"PHASESYNC_DATA_DIR": "/srv/x"}
    assert load_settings(environ=environ).settings.database_url == "sqlite:////srv/x/phasesync.db"
    environ["PHASESYNC_DATABASE_URL"] = "postgresql://h/d"
    assert load_settings(environ=environ).settings.database_url == "postgresql://h/d"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_DATA_HOME": "/xdg"}, "/xdg/phasesync"),
        ({"STATE_DIRECTORY": "/var/lib/phasesync:/other", "XDG_DATA_HOME": "/xdg"}, "/var/lib/phasesync"),
        ({"STATE_DIRECTORY": "/var/lib/phasesync", "PHASESYNC_DATA_DIR": "/mine"}, "/mine"),
    ],
)
def test_systemd_and_xdg_move_the_default_data_directory(environ, expected):
    assert str(load_settings(environ=environ).settings.data_dir) == expected


def test_the_usual_file_is_found_and_the_working_directory_is_not_looked_at(home, monkeypatch):
    monkeypatch.chdir(home)
    written(home / "config.toml", "[daemon]\nworkers = 2\n")
    written(home / "phasesync.toml", "[daemon]\nworkers = 2\n")
    environ = {"HOME": str(home)}
    assert load_settings(environ=environ).settings.daemon.workers == 8
    usual = written(home / ".config/phasesync/config.toml", "[daemon]\nworkers = 3\n")
    loaded = load_settings(environ=environ)
    assert (loaded.settings.daemon.workers, loaded.source) == (3, usual)


def test_a_file_is_named_by_flag_or_variable(tmp_path):
    one = written(tmp_path / "one.toml", "[daemon]\nworkers = 1\n")
    two = written(tmp_path / "two.toml", "[daemon]\nworkers = 2\n")
    environ = {"PHASESYNC_CONFIG": str(one)}
    assert load_settings(environ=environ).settings.daemon.workers == 1
    assert load_settings(two, environ).settings.daemon.workers == 2


def refusal(config=None, environ=None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, environ or {})
    assert "\n" not in caught.value.message
    return caught.value


def test_a_named_file_must_exist(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.toml").message


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path, mode):
    error = refusal(written(tmp_path / "c.toml", "", mode))
    assert "may be changed by other users" in error.message
    assert "chmod go-w" in (error.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    config = written(tmp_path / "c.toml", "", 0o644)
    os.chown(config, 65_534, 65_534)
    assert "may be changed by other users" in refusal(config).message


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "huge", "n" * 300, "."])
def test_a_path_that_leads_to_no_settings_file_is_named_at_once(name, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SettingsError, match=r"the settings file .* cannot be read: "):
        load_settings(tmp_path / name)


@pytest.mark.parametrize("name", ["data_dir", "root_key_file"])
def test_a_path_with_a_nul_is_refused(name, tmp_path):
    path = written(tmp_path / "c.toml", f'{name} = "/a\\u0000b"\n')
    with pytest.raises(SettingsError, match=f"{name}: must not hold a NUL"):
        load_settings(path)


@pytest.fixture
def homeless(monkeypatch):
    """Be a user without HOME and without an entry in the user database, as in a container."""
    monkeypatch.delenv("HOME", raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_without_a_home_directory_only_the_defaults_that_are_used_count(homeless):
    settings = load_settings(environ={"PHASESYNC_ROOT_KEY": "A" * 43 + "="}).settings
    assert settings.default_root_key_file is None
    assert settings.http.port == 8787
    with pytest.raises(SettingsError, match="in the home directory, and this user has none") as caught:
        parse_database_url(settings.database_url)
    assert "PHASESYNC_DATA_DIR" in str(caught.value.hint)

    named = load_settings(environ={"PHASESYNC_DATABASE_URL": "sqlite:////srv/p.db"}).settings
    assert parse_database_url(named.database_url).database == "/srv/p.db"


def test_without_a_home_directory_a_path_that_asks_for_it_is_refused(homeless):
    with pytest.raises(SettingsError, match="data_dir: a path that begins with ~ needs a home directory"):
        load_settings(environ={"PHASESYNC_DATA_DIR": "~/data"})


def test_a_usual_place_that_cannot_be_looked_into_is_passed_over_with_a_warning(tmp_path):
    home = tmp_path / ("n" * 200)
    for _ in range(25):  # beyond PATH_MAX: the one reason that also stops root
        home = home / ("n" * 200)
    (warning,) = load_settings(environ={"HOME": str(home)}).warnings
    assert warning.endswith("config.toml is not read: File name too long")


@given(name=st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40))
def test_a_data_directory_may_have_any_name(name):
    folder = f"/srv/{name}/x"
    settings = Settings(data_dir=folder)
    assert parse_database_url(settings.database_url).database == f"{settings.data_dir}/phasesync.db"


def test_a_data_directory_may_have_a_name_that_is_not_utf_8():
    folder = os.fsdecode(b"/srv/\xff%20?#")
    settings = load_settings(environ={"PHASESYNC_DATA_DIR": folder}).settings
    assert parse_database_url(settings.database_url).database == f"{folder}/phasesync.db"


def test_what_is_not_toml_is_refused_with_the_place_and_without_the_text(tmp_path):
    error = refusal(written(tmp_path / "c.toml", 'database_url = "x"\ncanary canary\n'))
    assert "line 2" in error.message
    assert "canary" not in error.message


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("[daemon]\nworker = 1\n", "daemon.worker", "daemon.workers"),
        ("databse_url = 'x'\n", "databse_url", "database_url"),
        ("[deamon]\nworkers = 1\n", "deamon", None),
    ],
)
def test_an_unknown_name_in_the_file_is_an_error_that_names_the_nearest(tmp_path, text, unknown, nearest):
    message = refusal(written(tmp_path / "c.toml", text)).message
    assert f"there is no setting '{unknown}'" in message
    assert nearest is None or f"did you mean {nearest}?" in message


def test_an_unknown_variable_is_a_warning_that_does_not_show_its_value():
    environ = {
        "PHASESYNC_PORT": "tcp://canary:80",
        "PHASESYNC_SERVICE_HOST": "canary",
        "PHASESYNC_DATABSE_URL": "canary",
        "PHASESYNC_CONFIG": "",
        "PHASESYNC_ACTOR": "me",
        "OTHER": "x",
    }
    warnings = load_settings(environ=environ).warnings
    assert [warning.split()[0] for warning in warnings] == [
        "PHASESYNC_DATABSE_URL",
        "PHASESYNC_PORT",
        "PHASESYNC_SERVICE_HOST",
    ]
    assert "did you mean PHASESYNC_DATABASE_URL?" in warnings[0]
    assert not any("canary" in warning for warning in warnings)


def test_an_empty_variable_counts_as_not_set():
    assert load_settings(environ={"PHASESYNC_DAEMON__WORKERS": ""}).settings.daemon.workers == 8


INTEGERS = [name for name, info in setting_names() if info.annotation is int]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["canary", "-1", "999999999", "1.5"])
def test_a_number_that_is_none_or_out_of_range_is_refused_with_name_unit_and_range(name, value):
    message = refusal(environ={variable_of(name): value}).message
    assert message.startswith(f"{name}: must be a whole number from ")
    assert variable_of(name) in message
    assert value not in message
    if name.endswith(("_ms", "_s", "_days")):
        assert re.search(r" (milliseconds|seconds|days) ", message)


@pytest.mark.parametrize("name", ["http.listen", "log.level", "log.format", "database_url"])
def test_a_text_that_is_not_allowed_is_refused_without_showing_it(name):
    message = refusal(environ={variable_of(name): "canary"}).message
    assert message.startswith(f"{name}: must be ")
    assert "canary" not in message


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::1]:8787", ":80", "localhost:65535"])
def test_these_are_addresses(listen):
    http = load_settings(environ={"PHASESYNC_HTTP__LISTEN": listen}).settings.http
    assert "[" not in http.host
    assert listen.endswith(f":{http.port}")


@pytest.mark.parametrize("listen", ["8787", "host:", "::1:80", "h:65536", "http://h:80", "h:80/x", "h h:80"])
def test_these_are_no_addresses(listen):
    assert refusal(environ={"PHASESYNC_HTTP__LISTEN": listen}).message.startswith("http.listen: must be HOST:PORT")


@pytest.mark.parametrize("text", ["http = 3\n", "[[http]]\nlisten = 'h:1'\n"])
def test_a_section_must_be_a_table(tmp_path, text):
    assert refusal(written(tmp_path / "c.toml", text)).message.startswith("http: must be a table")


def test_a_root_key_file_that_somebody_named_is_known_from_the_default():
    assert load_settings(environ={"XDG_DATA_HOME": "/xdg"}).settings.named_root_key_file is None
    named = load_settings(environ={"PHASESYNC_ROOT_KEY_FILE": "/k"}).settings
    assert named.named_root_key_file == named.root_key_file == Path("/k")


def test_the_root_key_does_not_belong_into_the_settings_file(tmp_path):
    error = refusal(written(tmp_path / "c.toml", 'root_key = "canary"\n'))
    assert "root_key must not stand in the settings file" in error.message
    assert "canary" not in repr(error)


def test_the_password_of_a_mail_server_does_not_belong_into_the_settings_file(tmp_path):
    error = refusal(written(tmp_path / "c.toml", '[notifications]\nsmtp_password = "canary"\n'))
    assert "notifications.smtp_password must not stand in the settings file" in error.message
    error = refusal(written(tmp_path / "c.toml", '[notifications]\nsmtp_url = "smtp://me:canary@mail.example.com"\n'))
    assert "smtp_password_file names the file" in error.message
    assert "canary" not in repr(error)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("smtp_url", "mail.example.com:port", "no valid host"),
        ("smtp_url", "https://mail.example.com", "write smtp://USER@HOST:587"),
        ("mail_from", "a@example.com, b@example.com", "one mail address"),
    ],
)
def test_a_wrong_mail_setting_says_how_it_is_written(setting, value, says):
    with pytest.raises(SettingsError, match=says):
        load_settings(environ={f"PHASESYNC_NOTIFICATIONS__{setting.upper()}": value})


def test_settings_print_neither_the_root_key_nor_the_database_url():
    environ = {"PHASESYNC_ROOT_KEY": "canary", "PHASESYNC_DATABASE_URL": "postgresql://u:canary@h/d"}
    loaded = load_settings(environ=environ)
    assert loaded.settings.root_key is not None
    assert loaded.settings.root_key.get_secret_value() == "canary"
    assert "canary" not in repr(loaded)
    assert "canary" not in str(loaded.settings)


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory, content):
    config = tmp_path_factory.mktemp("any") / "c.toml"
    config.write_bytes(content)
    config.chmod(0o600)
    try:
        message = ""
        assert load_settings(config, {}).settings == Settings()
    except SettingsError as error:
        message = error.message
    assert "\n" not in message


# --- the example


def example() -> dict[str, Any]:
    """The example with every comment mark before a setting taken away."""
    return tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE))


def test_the_example_has_every_setting_and_its_defaults(home, tmp_path):
    document = example()
    names = {
        f"{group}.{name}" if isinstance(value, dict) else group
        for group, value in document.items()
        for name in (value if isinstance(value, dict) else [""])
    }
    assert names == {name for name, _ in setting_names()} - set(ENVIRONMENT_ONLY)

    # The database's default follows another setting, so that its line shows an example; others have no default.
    for name in ("database_url", "root_key_kms_key", "root_key_kms_key_next", "age_identity_file"):
        del document[name]
    assert set(document.pop("notifications")) == {"smtp_url", "smtp_password_file", "mail_from"}
    assert Settings(**document) == Settings()


def test_the_example_is_accepted_as_it_is_and_changes_nothing(home):
    config = written(home / "c.toml", EXAMPLE.read_text())
    assert load_settings(config, {"HOME": str(home)}).settings == Settings()


def test_the_example_says_something_of_every_setting():
    lines = EXAMPLE.read_text().splitlines()
    settings = [n for n, line in enumerate(lines) if re.match(r"# [a-z_]+ = ", line)]
    assert len(settings) == sum(len(v) if isinstance(v, dict) else 1 for v in example().values())
    for n in settings:
        paragraph = []
        while lines[n - 1].startswith("# "):
            n -= 1
            paragraph.append(lines[n])
        assert "Default:" in " ".join(paragraph)


def test_every_setting_has_a_docstring():
    module = ast.parse(inspect.getsource(model))
    without = [
        f"{group.name}.{ast.unparse(setting.target)}"
        for group in module.body
        if isinstance(group, ast.ClassDef)
        for setting, after in pairwise([*group.body, None])
        if isinstance(setting, ast.AnnAssign)
        and not ast.unparse(setting.annotation).endswith("Settings")
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert without == []


def test_reading_settings_imports_no_adapter():
    code = "import sys, phasesync.settings as s; s.load_settings(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"boto3", "botocore", "sqlalchemy", "alembic", "apscheduler", "rich"} & set(done.stdout.split())


def test_a_plugin_of_another_package_sees_no_setting(tmp_path):
    """A plugin of pydantic gets every value that is validated: the root key, and the password of the database."""
    (tmp_path / "spy.py").write_text("def new_schema_validator(*_, **__): raise SystemExit('the plugin is asked')\n")
    written(tmp_path / "spy-1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: spy\nVersion: 1\n")
    written(tmp_path / "spy-1.dist-info" / "entry_points.txt", "[pydantic]\nspy = spy\n")
    code = "import os, sys, {0}; print('spy' in sys.modules, 'PYDANTIC_DISABLE_PLUGINS' in os.environ)"
    environ = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for module, expected in (("pydantic_settings, pydantic.networks", ""), ("phasesync.settings", "False False\n")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module)], env=environ, capture_output=True, text=True, check=False
        )
        assert done.stdout == expected, done.stderr


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"])
def test_white_space_at_the_ends_of_a_variable_belongs_to_no_setting(end, tmp_path):
    """A variable that was made of a file has the file's last newline."""
    settings = load_settings(
        environ={
            "HOME": str(tmp_path),
            "PHASESYNC_DATABASE_URL": f"postgresql://u:p@h/d{end}",
            "PHASESYNC_ROOT_KEY_FILE": f"{tmp_path}/root.key{end}",
            "PHASESYNC_LOG__LEVEL": f"warning{end}",
            "PHASESYNC_DATA_DIR": end,
        }
    ).settings
    assert settings.database_url == "postgresql://u:p@h/d"
    assert settings.root_key_file == tmp_path / "root.key"
    assert settings.log.level == "warning"
    assert "data_dir" not in settings.model_fields_set
