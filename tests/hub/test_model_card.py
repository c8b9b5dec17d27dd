# SPDX-License-Identifier: Apache-2.0
import re
from dataclasses import replace
from importlib.metadata import version

import pytest
from huggingface_hub import ModelCard

from tests.hub.tiny_runs import LABELS, METRICS, tiny_model, tiny_processor, write_recipe
from unisegment import UniSegmentImageProcessor
from unisegment.hub.model_card import code, model_card, plain
from unisegment.hub.run_files import RunFiles, read_run
from unisegment.models.base import FAMILIES


@pytest.fixture
def model():
    return tiny_model()


def card_of(run, model, processor=None, **settings):
    card = model_card("someone/cows", run, model, processor or tiny_processor(), **settings)
    again = ModelCard(str(card))  # as the Hub reads it
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text
    return again


def section(card, title):
    return re.search(rf"## {title}\n\n(.*?)\n\n(?=## |\Z)", card.text + "\n\n", re.DOTALL)[1]


def test_scores_are_those_of_the_run(run, model):
    results = {result.metric_type: result for result in card_of(read_run(run), model).data.eval_results}
    names = {"miou": "mean_iou"}
    scores = ("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap", "miou")
    assert {kind: result.metric_value for kind, result in results.items()} == {
        names.get(score, score): METRICS[score] for score in scores
    }
    assert results["mask_ap"].task_name == "Instance segmentation"
    assert {result.task_type for result in results.values()} == {"image-segmentation"}
    # One entry for each task: the Hub groups what has the same data set and configuration.
    assert {(result.dataset_config, result.dataset_split) for result in results.values()} == {
        ("panoptic", "val"), ("instance", "val"), ("semantic", "val"),
    }  # fmt: skip
    assert {(result.dataset_type, result.dataset_name) for result in results.values()} == {
        ("cows-2024", "cows: 2024"),
    }


def test_the_introduction_says_what_the_model_is(run, model):
    paragraph = card_of(read_run(run), model).text.split("\n\n")[1]
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert paragraph == (
        "Universal image segmentation: one set of weights answers what is where (semantic), which object (instance), "
        "and both at once (panoptic). A [Mask2Former](https://arxiv.org/abs/2112.01527) with a resnet backbone, "
        f"5 queries and {millions:.1f} million weights, trained on cows: 2024, written by unisegment "
        f"{version('unisegment')}."
    )


def test_a_card_speaks_the_words_of_the_family(run, model, monkeypatch):
    class OtherConfig(type(model.config)):
        model_type = "unisegment_other"

    monkeypatch.setattr(FAMILIES, "_others", {})
    FAMILIES.register(
        replace(
            FAMILIES["unisegment"], name="Encoder", source="https://arxiv.org/abs/1234.56789", config=OtherConfig,
            describe=lambda config: [f"{config.num_queries} <queries>"],
        )
    )  # fmt: skip
    model.config.model_type = OtherConfig.model_type
    card = card_of(read_run(run), model)
    assert card.data.tags[:2] == ["unisegment", "encoder"]
    assert r"An [Encoder](https://arxiv.org/abs/1234.56789) with 5 &lt;queries\> and " in card.text
    assert "With transformers alone, as its Encoder, which takes stuff for things" in section(card, "Use")
    assert "Mask2Former" not in card.text


class Windows(UniSegmentImageProcessor):
    def why_not(self, task):
        return None if task == "semantic" else "windows give semantic results only"


def test_tasks_that_cannot_be_read_are_not_promised(run, model):
    metrics = METRICS | dict.fromkeys(("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap")) | {"task": "semantic"}
    processor = Windows(size={"shortest_edge": 64, "longest_edge": 96})
    for files in (replace(read_run(run), metrics=metrics), RunFiles(run, recipe=read_run(run).recipe)):
        card = card_of(files, model, processor)
        assert card.data.tags[2:] == ["semantic-segmentation"]
        assert card.text.split("\n\n")[1].startswith("Semantic image segmentation. A [Mask2Former]")
        assert 'result.draw("semantic")' in section(card, "Use")
        assert 'subtask="semantic"' in section(card, "Use")
        assert "It gives semantic results only." in section(card, "Limits")
        for words in ("panoptic results", "instance results", "come from the same forward pass"):
            assert words not in card.text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"max_height": 48, "max_width": 64}, "at most 48 × 64 pixels:"),
        ({"shortest_edge": 64, "longest_edge": 96}, "a shorter side of 64 pixels and a longer one of at most 96:"),
    ],
)
def test_sizes_of_all_kinds_are_said(run, model, size, words):
    card = card_of(read_run(run), model, UniSegmentImageProcessor(size=size))
    assert f"Images are resized to {words}" in section(card, "Limits")


def test_metadata(run, model):
    data = card_of(read_run(run), model).data.to_dict()
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "image-segmentation"
    assert data["tags"] == [
        *("unisegment", "mask2former", "semantic-segmentation", "instance-segmentation", "panoptic-segmentation"),
    ]
    assert data["model-index"][0]["name"] == "cows"
    assert not {"datasets", "base_model", "license"} & set(data)


def test_what_was_not_evaluated_has_no_score(run, model):
    missing = dict.fromkeys(("pq", "sq", "rq", "pq_things", "pq_stuff", "miou"))
    card = card_of(replace(read_run(run), metrics=METRICS | missing), model)
    assert [result.metric_type for result in card.data.eval_results] == ["mask_ap"]
    assert "instance-segmentation" in card.data.tags
    assert "panoptic-segmentation" not in card.data.tags
    assert "Its semantic and panoptic results have not been evaluated." in section(card, "Limits")
    assert section(card, "Scores").count("\n| ") == 2


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_the_task_of_the_run_comes_first_and_is_shown(run, model, task):
    card = card_of(replace(read_run(run), metrics=METRICS | {"task": task}), model)
    assert section(card, "Scores").split("\n|")[3].startswith(f" {task} |")
    assert card.data.eval_results[0].task_name == f"{task.capitalize()} segmentation"
    ours, theirs = re.findall(r"```python\n(.*?)```", section(card, "Use"), re.DOTALL)
    assert f'result.draw("{task}")' in ours
    assert f'subtask="{task}"' in theirs


def test_a_score_of_zero_is_a_score(run, model):
    card = card_of(replace(read_run(run), metrics=METRICS | {"mask_ap": 0.0}), model)
    assert 0.0 in [result.metric_value for result in card.data.eval_results]


def test_a_checkpoint_alone(model, tmp_path):
    card = card_of(RunFiles(tmp_path), model)
    assert "model-index" not in card.data.to_dict()
    assert section(card, "Scores") == "Not evaluated."
    assert section(card, "Data and training") == "Not recorded."
    assert "## Make it again" not in card.text
    assert "prediction.png" not in card.text


def test_the_body_says_what_was_done(run, model):
    card = card_of(read_run(run), model)
    training = section(card, "Data and training")
    assert "data: cows: 2024, read as `coco_panoptic` (COCO's panoptic format: a JSON file, and PNG files " in training
    assert "7 of 7 steps, in 1.5 hours" in training
    assert "4 images in a step, learning rate 0.0001, schedule `poly`" in training
    assert "precision: float32" in training
    assert "started from random weights" in training
    assert "| panoptic | panoptic quality (PQ) | 0.812 |" in section(card, "Scores")
    assert "On 31 held-out images" in section(card, "Scores")
    assert "a shorter side of 64 pixels and a longer one of at most 96" in section(card, "Limits")
    assert "](prediction.png)" in card.text
    assert "secret" not in card.text


def test_images_that_were_left_out_are_counted_and_not_named(run, model):
    metrics = METRICS | {"unreadable_images": ["/private/a.png: broken", "/private/b.png: broken"]}
    card = card_of(replace(read_run(run), metrics=metrics), model)
    assert "; 2 images of the data set could not be read and were left out:" in card.text
    assert "private" not in card.text


def test_labels_with_signs_of_yaml_and_markdown(run, model):
    labels = section(card_of(read_run(run), model), "Labels")
    assert labels.startswith(r"Things (2): 0 cow · 1 no: \[yaml\] \# \| \`x\` &lt;b\>")
    assert labels.endswith("Stuff (1): 2 sky")
    assert plain("two\n---\nlines * & _") == r"two --- lines \* &amp; \_"


def test_stuff_that_is_not_known(run, model):
    card = card_of(read_run(run), model, UniSegmentImageProcessor(size={"height": 32, "width": 64}))
    assert section(card, "Labels").startswith(f"Things or stuff, which is not known ({len(LABELS)}): 0 cow")
    assert "panoptic results take all for things" in section(card, "Limits")
    assert "resized to 32 × 64 pixels:" in section(card, "Limits")


@pytest.mark.parametrize(
    ("root", "format", "name", "kind"),
    [
        ("folder", "ade20k_semantic", "ADE20K", "ade20k"),
        ("folder", "mapillary_vistas_panoptic", "Mapillary Vistas", "mapillary-vistas"),
        ("user/cows", "hugging_face", "user/cows", "user/cows"),
        ("…", "png_semantic", "…", "unknown"),
    ],
)
def test_names_of_data_sets(run, model, root, format, name, kind):
    write_recipe(run, root, **{"data.format": format})
    card = card_of(read_run(run), model)
    assert {(result.dataset_name, result.dataset_type) for result in card.data.eval_results} == {(name, kind)}
    assert card.data.datasets == (["user/cows"] if format == "hugging_face" else None)


def test_weights_keep_the_licence_of_what_they_come_from(run, model):
    model.config.base_weights = [
        {"name": "facebook/mask2former-swin-tiny-coco-panoptic", "license": "cc-by-nc-4.0"},
        {"name": "resnet50.pth", "license": "unknown"},
    ]
    card = card_of(read_run(run), model)
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.base_model == ["facebook/mask2former-swin-tiny-coco-panoptic"]
    assert "tiny-coco-panoptic, resnet50.pth" in section(card, "Data and training")
    text = section(card, "Licence of the weights")
    assert text.startswith("`cc-by-nc-4.0`.")
    assert "* resnet50.pth, licence unknown" in text
    assert "does not allow commercial use" in text
    with pytest.raises(ValueError, match="'mit': these weights come from facebook"):
        card_of(read_run(run), model, license="mit")


def test_own_weights_have_the_licence_that_is_chosen(run, model):
    assert card_of(read_run(run), model, license="mit").data.license == "mit"
    card = card_of(read_run(run), model)
    assert card.data.license is None
    assert section(card, "Licence of the weights").startswith("Nobody has said which")


def test_a_licence_without_an_identifier(run, model):
    model.config.base_weights = [{"name": "facebook/dinov3-vits16", "license": "dinov3-license"}]
    data = card_of(read_run(run), model).data
    assert (data.license, data.license_name) == ("other", "dinov3-license")


def test_it_says_why_plain_transformers_cannot_open_it(run, model):
    card = card_of(read_run(run), model, why_not_stock="transformers has no fpn.")
    assert card.data.library_name == "unisegment"
    assert "Plain transformers cannot open it: transformers has no fpn." in card.text
    assert "pipeline(" not in card.text


NAMES = [
    *(
        "- item",
        "+ a",
        "1. one",
        "1) one",
        "12",
        "=",
        "# t",
        "---",
        "***",
        "a\n---\nb",
        "![x](y)",
        "[a](b)",
        "<script>",
        "&lt;",
    ),
    *(
        "\\",
        "`",
        "``a`",
        "a`b``c",
        "**b**",
        "~~s~~",
        "> q",
        "$x$",
        "|a|b|",
        "\t code",
        "Ü 名 🐄",
        "end\\",
        "a\u200db",
        "-1",
    ),
    *("https://evil.com/x", "WWW.evil.com", "a@b.c", "`https://x`"),
]


def tokens(parsed):
    for token in parsed:
        yield token
        yield from tokens(token.children or ())


@pytest.mark.parametrize("line", ["{}", "* {}", "Things: 0 {} · 1 cow"])
@pytest.mark.parametrize("written", [plain, code])
def test_names_are_read_as_they_are_and_as_nothing_else(written, line):
    """By a reader of Markdown that we did not write; it comes with typer."""
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    harmless = {"inline", "text", "text_special", "code_inline", "paragraph_open", "paragraph_close"}
    in_a_list = {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
    for name in NAMES:
        found = list(tokens(reader.parse(line.format(written(name)))))
        text = "".join(token.content for token in found if token.type in ("text", "text_special", "code_inline"))
        assert " ".join(name.split()) in text
        assert {token.type for token in found} <= harmless | (in_a_list if line.startswith("*") else set()), name
        assert sum(token.type == "bullet_list_open" for token in found) == line.startswith("*"), name
        assert written(name).startswith("`") or not re.search(r"://|www\\.|@", name)


def test_what_is_not_seen_is_left_out():
    assert (plain("\u202egnp.exe\0"), code("\u2066a"), code("")) == ("gnp.exe", "`a`", "`  `")


@pytest.mark.parametrize(
    "hostile",
    ["a: [b", "x\n---\nlicense: mit\n---\n# y", "`code` <b>", "a\u2028b\x85c", "%!tag &anchor *alias", "'\"", "-"],
)
def test_names_and_licences_of_others_stay_names(run, model, hostile):
    model.config.id2label = {0: hostile, 1: "cow", 2: "sky"}
    model.config.base_weights = [{"name": hostile, "license": hostile}, {"name": "/home/acme/resnet.pth"}]
    write_recipe(run, hostile, **{"data.format": "png_semantic"})
    card = card_of(read_run(run), model)
    assert (card.data.license, card.data.base_model) == ("other", None)
    assert re.fullmatch(r"[\w.+-]+", card.data.license_name, re.ASCII)
    assert re.findall(r"^#+ .*", card.text, re.MULTILINE)[:2] == ["# cows", "## Labels"]
    assert "<b>" not in re.sub(r"`[^`]+`|``.+``", "", card.text)
    assert "acme" not in str(card)
