# SPDX-License-Identifier: Apache-2.0
"""Values that files hold where something else is expected, and texts and pickles that would run code."""

import json
from random import Random
from typing import Any

CANARY = "RAN_CODE"
"""The file that hostile files would make; part of every text that is to be executed."""

INTEGERS = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 10**6, 10**8, 10**9, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32),
    *(2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, -(10**30), 10**400),
)
FLOATS = (0.5, -0.5, -0.0, 1e-300, 1e300, 1.5e9, float("nan"), float("inf"), float("-inf"), 1 - 2**-53)
TEXTS = (
    *("", "a", " ", "0", "-1", "1e5", "nan", "null", "True", "\0", "a\0b", "é", "\ud800", "\u202e", "\n", "x" * 10000),
    *("..", "../../x", f"../{CANARY}", f"/tmp/{CANARY}", "/etc/passwd", "/dev/zero", "C:\\x", "a\\..\\..\\x", "~/x"),
    *("hf://datasets/a/b", "http://127.0.0.1:9/a.pth", "https://127.0.0.1:9/a.pth", "file:///etc/passwd", "a/b"),
    *("resnet", "swin", "microsoft/resnet-50", "float16", "torch.float8_e4m3fn", "cuda", "{0.__class__}", "%s%n"),
    *("%(a)s", "🙂" * 50, "os.system", f"__import__('os').system('touch {CANARY}')", "[" * 3000, "1" * 5000),
)
HOSTILE_KEYS = (
    *("auto_map", "trust_remote_code", "_commit_hash", "quantization_config", "dtype", "torch_dtype", "architectures"),
    *("model_type", "attn_implementation", "_attn_implementation", "_name_or_path", "custom_pipelines", "device_map"),
    *("backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_config", "num_labels", "id2label"),
    *(
        "processor_class",
        "image_processor_type",
        "feature_extractor_type",
        "__class__",
        "self",
        "kwargs",
        "return_dict",
    ),
    *("gradient_checkpointing", "transformers_version", "base_weights", "categories", "size", "extends", "iscrowd"),
)
_CODE = f"touch {CANARY}"
AUTO_MAP = {"AutoConfig": f"{CANARY}.A", "AutoModel": f"{CANARY}.A", "AutoImageProcessor": f"{CANARY}.A"}

BYTES = (
    *(b"", b"\0", b"\n", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"%PDF-1.4", b"PK\x03\x04", b"\x80\x04."),
    *(b"II*\0", b"GIF89a", b"BM", b"P6 99999 99999 255\n", b"{}", b"[]", b"null", b"{" * 3000, b"\x89PNG\r\n\x1a\n"),
    *(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"<html>404</html>", b"\x1f\x8b\x08"),
)

YAML_TEXTS = (
    f'!!python/object/apply:os.system ["{_CODE}"]',
    f'!!python/object/new:os.system ["{_CODE}"]',
    f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{CANARY}]]",
    "!!python/name:os.system",
    f"!!python/module:{CANARY}",
    "!!binary Zm9v",
    *("!!binary =", "!!int x", "!!float x", "!!bool x", "!!null x", "!!timestamp x", "!!set [a]", "!!omap [a]"),
    *("!!pairs a", "!!str [a]", "!!map [a]", "!!seq {a: b}", "!a b", "!<tag:yaml.org,2002:python/tuple> [a]"),
    *("2001-13-45", "2001-01-01T99:99:99Z", "2001-01-01 00:00:00 +99:99", "190:20:30", "0b2", "0x", "0o8", "0b", "08"),
    *("1__2", "_", "-_", "0x_", "+", ".", ".e5", "1e", "1e999", "-.inf", ".nan", "9" * 5000, "~", "<<", "=", "&a"),
    *("*a", "&a [*a]", "&a {b: *a}", "<<: *a", "{<<: [1]}", "{<<: {<<: {}}}", "? [a, b]", "? {a: b}", "{[a]: b}"),
    *("{{a: b}: c}", "[" * 400, "[" * 20000, "{a: " * 400, "- " * 3000, "a: " * 300, "|", ">", "'", '"', '"\\x', "\t"),
    *("%YAML 9.9", "%TAG ! x", "---", "...", "--- a\n--- b", "# é", "@", "`", "\\", "\ufeff", "\x85", '"\\ud800"'),
    *("../x.yaml", "/etc/passwd", ".", "coco_panoptic_r50", f"../{CANARY}"),
    "&a [x, x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
)


def hostile_value(rng: Random) -> Any:
    """Return a value that is probably none of those expected."""
    match rng.randrange(8):
        case 0 | 1:
            return rng.choice(INTEGERS)
        case 2:
            return rng.choice(FLOATS)
        case 3 | 4:
            return rng.choice(TEXTS)
        case 5:
            return rng.choice((None, True, False))
        case 6:
            return json.loads(
                rng.choice(
                    ("[]", "{}", "[[]]", "[{}]", "[1]", '["a"]', "[null]", '{"a": 1}', '{"": null}', "[[1, 2], [3]]")
                )
            )
        case _:
            return rng.choice((AUTO_MAP, [0] * 20000, {str(key): key for key in range(3000)}, nested(rng, 0)))


def nested(rng: Random, value: Any) -> Any:
    """Return a value in many containers, no more than the writers of JSON and YAML can follow."""
    as_list = rng.random() < 0.5
    for _ in range(rng.choice((2, 10, 150))):
        value = [value] if as_list else {"a": value}
    return value
