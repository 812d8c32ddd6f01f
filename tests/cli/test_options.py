"""Options are made from the settings, a file says what they do not, and errors name them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from wdistill.cli.main import CONFIGS, cli
from wdistill.cli.options import setting_options, settings, spoken
from wdistill.cli.settings_file import read_settings, settings_text
from wdistill.config import EvaluateConfig, RunConfig, RuntimeConfig
from wdistill.core.settings import Settings, options_of, validated
from wdistill.errors import OptionError


def parsed(kind: type[Settings], *arguments: str | Path, **fixed: str) -> tuple[Any, RuntimeConfig]:
    """What a command whose options are those of ``kind`` makes of its arguments."""

    @click.command()
    @setting_options(kind)
    @setting_options(RuntimeConfig)
    @click.option("--config", type=click.Path(path_type=Path))
    def command(**options: Any) -> tuple[Settings, RuntimeConfig]:
        return settings(kind, options, **fixed)

    result: tuple[Settings, RuntimeConfig] = command.main(
        [str(argument) for argument in arguments], standalone_mode=False
    )
    return result


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_typed_is_the_defaults() -> None:
    assert parsed(RunConfig) == (RunConfig(), RuntimeConfig())
    assert parsed(EvaluateConfig, source="a") == (EvaluateConfig("a"), RuntimeConfig())


def test_each_flag_sets_its_setting() -> None:
    values = {int: "7", float: "0.5", str: "x", "BYTES": "15kB", "NAME,...": "full,nearest"}
    values["auto|lossless|1..100"] = "lossless"
    for kind, fixed in ((RunConfig, {}), (EvaluateConfig, {"source": "a"})):
        for name, hint, described in options_of(kind):
            if described.flag is None or name == "evaluate.labels":
                continue
            kind_of = str(hint)
            value = values[str]
            if described.metavar in values:
                value = values[described.metavar]
            elif isinstance(described.allowed, tuple):
                value = described.allowed[-1]
            elif "float" in kind_of:
                value = values[float]
            elif "int" in kind_of:
                value = "17"
            arguments = [described.flag] if "bool" in kind_of else [described.flag, value]
            config, _ = parsed(kind, *arguments, **fixed)
            section, _, last = name.rpartition(".")
            changed = getattr(getattr(config, section) if section else config, last)
            assert changed in (
                value, [value], (value,), 17, 0.5, 15_000, ("full", "nearest"),
                not described.flag.startswith("--no-"),
            ), name  # fmt: skip


def test_repeated_values_count_once() -> None:
    config, _ = parsed(RunConfig, "--student", "vit", "--student", "convnet", "--student", "vit")
    assert config.evaluate.students == ("vit", "convnet")
    config, _ = parsed(EvaluateConfig, "--baselines", "full, full,none", source="a")
    assert config.baselines == ("full",)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_config_prints_is_read_as_the_defaults(name: str, tmp_path: Path) -> None:
    kind, names = CONFIGS[name]
    fixed = dict.fromkeys(names, "a")
    done = CliRunner().invoke(cli, ["config", name])
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 100
    path = write(tmp_path / "settings.yaml", done.output)
    assert parsed(kind, "--config", path, **fixed) == (kind(**fixed), RuntimeConfig())
    for setting, _, described in options_of(kind):
        assert f"{setting.rpartition('.')[2]}: " in done.output
        assert (described.flag or "") in done.output


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    text = "barycenter: {ipc: 3, restarts: 2}\nsynthesis: {lr: 1e-2}\nseed: 5\n"
    path = write(tmp_path / "a.yaml", text + "mixed_precision: no\nruntime: {num_workers: 2}\n")
    config, runtime = parsed(RunConfig, "--config", path, "--ipc", "4", "--device", "cpu")
    assert config.changed() == {
        "barycenter.ipc": 4, "barycenter.restarts": 2, "synthesis.lr": 0.01, "seed": 5,
    }  # fmt: skip
    assert runtime == RuntimeConfig(device="cpu", num_workers=2)


def test_images_per_class_that_are_typed_win_over_images_in_all_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "barycenter: {images: 100, allocation: w2}")
    config, _ = parsed(RunConfig, "--config", path, "--ipc", "4")
    assert config.barycenter.total(10) == 40
    config, _ = parsed(RunConfig, "--config", path, "--allocation", "uniform")
    assert (config.barycenter.total(10), config.barycenter.mean(10)) == (100, 10)


NUMBERS = {"barycenter.ipc": 4, "barycenter.images": 50, "budget": 30_000}
FLAGS = dict(zip(("--ipc", "--images", "--budget"), NUMBERS, strict=True))


@pytest.mark.parametrize("text", ["barycenter: {images: 100}", "barycenter: {ipc: 3}", "budget: 9"])
@pytest.mark.parametrize("flag", FLAGS)
def test_a_number_of_images_that_is_typed_wins_over_any_of_a_file(
    flag: str, text: str, tmp_path: Path
) -> None:
    path, name = write(tmp_path / "a.yaml", text), FLAGS[flag]
    config, _ = parsed(RunConfig, "--config", path, flag, str(NUMBERS[name]))
    assert config.changed() == {name: NUMBERS[name]}


@pytest.mark.parametrize("pair", itertools.combinations(FLAGS, 2))
def test_two_numbers_of_images_that_are_typed_are_refused(pair: tuple[str, str]) -> None:
    first, second = (FLAGS[flag] for flag in pair)
    with pytest.raises(OptionError, match=f"`{first}` and `{second}` are both given; leave one"):
        parsed(RunConfig, pair[0], "4", pair[1], "50")


TWO = [
    ("barycenter: {ipc: 4, images: 50}", "`barycenter.ipc` and `barycenter.images` are both given"),
    ("barycenter: {ipc: 4}\nbudget: 30000", "`barycenter.ipc` and `budget` are both given"),
    ("barycenter: {images: 50}\nbudget: 30000", "`barycenter.images` and `budget` are both given"),
    (
        "label_views: {budget: 3000}\nbudget: 30000",
        "`label_views.budget` has no effect with `budget`, which views fill",
    ),
]


@pytest.mark.parametrize(("text", "words"), TWO)
def test_two_numbers_of_images_in_a_file_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", text)
    with pytest.raises(OptionError) as caught:
        parsed(RunConfig, "--config", path)
    assert str(caught.value) == f"'{path}': {words}; leave one of them out"
    with pytest.raises(OptionError, match=words):
        RunConfig.from_dict(yaml.safe_load(text))


@pytest.mark.parametrize("name", NUMBERS)
def test_a_file_of_all_settings_may_say_another_number_of_images(name: str, tmp_path: Path) -> None:
    """That of `wdistill config`, which has the default number per class as well."""
    lines = CliRunner().invoke(cli, ["config", "run"]).output.splitlines()
    label = "  " * name.count(".") + name.rpartition(".")[2]  # label_views has a budget too
    place = next(i for i, line in enumerate(lines) if line.startswith(f"{label}: "))
    lines[place] = f"{label}: {NUMBERS[name]}"
    path = write(tmp_path / "a.yaml", "\n".join(lines))
    config, _ = parsed(RunConfig, "--config", path)
    assert config.changed() == {name: NUMBERS[name]}


def test_a_flag_may_complete_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{"evaluate": {"labels": ["views"]}}')
    config, _ = parsed(RunConfig, "--config", path, "--label-views", "4")
    assert config.label_views.count == 4
    write(path, '{"evaluate": {"labels": ["views"]}, "label_views": {"count": 0}}')
    with pytest.raises(OptionError, match=r"a.json': `evaluate.labels=views` needs stored views"):
        parsed(RunConfig, "--config", path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("barycentre: {ipc: 3}", "`barycentre` is no setting of wdistill"),
        (
            "barycenter: {ipcs: 3}",
            "choose from ipc, images, allocation, weights, group_weights, restarts",
        ),
        ("barycenter: {ipc: ten}", "`barycenter.ipc` is 'ten'; give a whole number"),
        ("barycenter: {ipc: 0}", "`barycenter.ipc` is 0; give a number from 1 to 1000"),
        ("barycenter: 3", "`barycenter` is 3; give settings by name"),
        ("runtime: {device: tpu}", "`runtime.device` is 'tpu'; choose one of auto, cpu, cuda, mps"),
        ("- ipc", "holds no settings"),
        ("data: {", "is not YAML or JSON"),
        ("\0", "is not YAML or JSON"),
    ],
)
def test_a_wrong_file_is_refused_in_a_line_that_names_it(
    text: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "wrong.yaml", text)
    with pytest.raises(OptionError) as caught:
        parsed(RunConfig, "--config", path)
    message = str(caught.value)
    assert message.startswith(f"'{path}'")
    assert words in message
    assert "\n" not in message


def test_the_source_is_not_for_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "source: b")
    with pytest.raises(OptionError, match="sets `source`, which the command line has to say"):
        parsed(EvaluateConfig, "--config", path, source="a")


def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = "a: no\nb: 1e-4\nc: 2026-01-01\nd: true\ne:\nf: 12\ng: .5\nh: ~\n"
    assert read_settings(write(tmp_path / "a.yaml", text)) == {
        "a": "no", "b": 1e-4, "c": "2026-01-01", "d": True, "e": None, "f": 12, "g": 0.5, "h": None,
    }  # fmt: skip


def test_an_edited_file_differs_in_what_was_edited(tmp_path: Path) -> None:
    text = settings_text(RunConfig).replace("\n  ipc: 10\n", "\n  ipc: 5\n")
    config = validated(RunConfig, {
        k: v for k, v in read_settings(write(tmp_path / "a.yaml", text)).items() if k != "runtime"
    })  # fmt: skip
    assert config.changed() == {"barycenter.ipc": 5}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run", "lower `barycenter.ipc` to 3", "lower --ipc to 3"),
        ("run", "use `mixed_precision=no`", "use --mixed-precision no"),
        ("run", "pass `teacher.allow_weak=True`", "pass --allow-weak-teacher"),
        ("run", "`evaluate.enabled=False`, `output`", "--no-evaluate, --output"),
        ("run", "`evaluate.epochs`, `evaluate.steps`", "--eval-epochs, evaluate.steps"),
        ("run", "`pip install trackio`, `trackio`", "`pip install trackio`, `trackio`"),
        ("evaluate", "`evaluate.epochs`, `columns.train_split`", "--epochs, --split"),
        ("evaluate", "`data.dataset`, `data.image_column`", "--against, --image-column"),
        ("evaluate", "`teacher.trust_remote_code=True`", "--trust-remote-code"),
        ("merge", "give folders of runs with `runtime.shard`", "give folders of runs with --shard"),
        ("reproduce", "`data.dataset`, `teacher.backbone`", "--dataset, --backbone"),
        ("push", "pass `private=False` or `create_pr=True`", "pass --public or --create-pr"),
    ],
)
def test_errors_name_the_flags_of_the_command(name: str, text: str, said: str) -> None:
    assert isinstance(cli, click.Group)
    assert spoken(text, cli.commands[name]) == said
