# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from unisegment.ops.yaml_reading import parse_yaml
from unisegment.runs.settings import (
    Bounds,
    RecipeError,
    check,
    construct,
    dotted_keys,
    merge,
    parse_overrides,
    plain,
)


@dataclass(frozen=True, kw_only=True)
class Engine:
    power: float
    cylinders: int = 4
    fuel: Literal["no", "diesel"] = "diesel"

    def __post_init__(self):
        if self.power < 0:
            raise ValueError(f"power must not be negative, got {self.power}.")


@dataclass(frozen=True, kw_only=True)
class Car:
    engine: Engine
    name: str | None = None
    is_new: bool = True
    seats: tuple[int, ...] = (2, 3)
    size: tuple[int, int] | None = None
    gears: int | Literal["automatic"] = 5
    colour: Literal["red"] | None = None
    doors: Annotated[int, Bounds(2, 5)] | None = 4
    names: dict[int, str] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


def read(text):
    return construct(Car, check(Car, parse_yaml(text, "car.yaml"), "car.yaml"), "car.yaml")


def test_a_section_becomes_its_dataclass():
    car = read("{engine: {power: 70}, seats: [2, 2], size: [5, 7], extras: {radio: {bands: [1]}}}")
    assert car == Car(engine=Engine(power=70.0), seats=(2, 2), size=(5, 7), extras={"radio": {"bands": [1]}})
    assert isinstance(car.engine.power, float)


def test_whole_numbers_may_be_written_with_an_exponent():
    assert read("{engine: {power: 1, cylinders: 1e1}}").engine.cylinders == 10


def test_a_key_may_take_words_beside_something_else():
    car = read("{engine: {power: 1}, gears: automatic, colour: red}")
    assert (car.gears, car.colour) == ("automatic", "red")
    car = read("{engine: {power: 1}, gears: 6.0, colour: null}")
    assert (car.gears, car.colour) == (6, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{engine: {power: fast}}", "car.yaml: engine.power must be a finite number, got 'fast'."),
        ("{engine: {power: true}}", "car.yaml: engine.power must be a finite number, got True."),
        ("{engine: {power: 1, cylinders: 2.5}}", "car.yaml: engine.cylinders must be a whole number, got 2.5."),
        ("{engine: {power: 1, cylinders: .inf}}", "car.yaml: engine.cylinders must be a whole number, got inf."),
        ("{engine: {power: 1, fuel: hay}}", "car.yaml: engine.fuel must be one of no, diesel, got 'hay'."),
        ("{engine: {power: -1}}", "car.yaml: engine: power must not be negative, got -1.0."),
        ("{engine: 3}", "car.yaml: engine is a section with keys, got 3."),
        ("{engine: {cylinders: 3}}", "car.yaml: engine.power is not set"),
        ("{name: 3}", "car.yaml: name must be a text or null, got 3."),
        ("{is_new: 1}", "car.yaml: is_new must be true or false, got 1."),
        ("{seats: [1, a]}", "car.yaml: seats[1] must be a whole number, got 'a'."),
        ("{size: [1]}", "car.yaml: size must be a list of 2 values, each a whole number or null, got [1]."),
        ("{gears: manual}", "car.yaml: gears must be a whole number or automatic, got 'manual'."),
        ("{gears: true}", "car.yaml: gears must be a whole number or automatic, got True."),
        ("{colour: blue}", "car.yaml: colour must be red or null, got 'blue'."),
        ("{seats: [.nan]}", "car.yaml: seats[0] must be a whole number, got nan."),
        ("{doors: 6}", "car.yaml: doors must be a whole number from 2 to 5 or null, got 6."),
        ("{doors: 1e30}", "car.yaml: doors must be a whole number from 2 to 5 or null, got 1e+30."),
        ("{names: {a: b}}", "car.yaml: a key of names must be a whole number, got 'a'."),
        ("{names: {1: [b]}}", "car.yaml: names.1 must be a text, got ['b']."),
        ("{extras: {1: 2}}", "car.yaml: a key of extras must be a text, got 1."),
        ("{engine: {power: 1" + 999 * "0" + "}}", "car.yaml: engine.power must be a finite number, got 1000"),
        ("{name: [" + 999 * "long, " + "]}", "car.yaml: name must be a text or null, got ['long', 'long', "),
        ("{extras: 1}", "car.yaml: extras must be a section with keys, got 1."),
        ("{power: 1}", "car.yaml: there is no key 'power'. Did you mean 'engine.power'?"),
        ("{engine: {cilinders: 1}}", "car.yaml: there is no key 'engine.cilinders'. Did you mean 'engine.cylinders'?"),
        ("[1]", "car.yaml: a recipe is a section with keys, got [1]."),
    ],
)
def test_errors_name_the_key_and_the_file(text, message):
    with pytest.raises(RecipeError) as error:
        read(text)
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_an_override_goes_only_so_deep():
    assert parse_overrides(["a.b=[1]"]) == {"a.b": [1]}
    for wrong, message in (("a" + ".a" * 50 + "=1", "is not an override"), ("a={", "a={, line 1: this is not YAML")):
        with pytest.raises(RecipeError, match=message):
            parse_overrides([wrong])


def test_merging_replaces_values_but_joins_sections_and_free_dicts():
    base = {"engine": {"power": 1, "fuel": "no"}, "seats": [1], "extras": {"radio": {"a": 1}, "roof": 1}}
    new = {"engine": {"power": 2}, "seats": [3, 4], "extras": {"radio": {"b": 2}}, "name": "x"}
    assert merge(Car, base, new) == {
        "engine": {"power": 2, "fuel": "no"},
        "seats": [3, 4],
        "extras": {"radio": {"b": 2}, "roof": 1},
        "name": "x",
    }
    assert base["engine"]["power"] == 1


def test_every_key_is_listed():
    assert dotted_keys(Car) == [
        *("engine.power", "engine.cylinders", "engine.fuel", "name", "is_new", "seats", "size"),
        *("gears", "colour", "doors", "names", "extras"),
    ]


def test_plain_values_have_no_tuples():
    assert plain({"a": (1, (2, 3)), "b": {"c": "text"}}) == {"a": [1, [2, 3]], "b": {"c": "text"}}
