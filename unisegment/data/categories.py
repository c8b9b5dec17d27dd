# SPDX-License-Identifier: Apache-2.0
"""Which labels of the well-known data sets are things and which are stuff.

Each table maps the name of a label to True for a thing and to False for stuff, in the order of the labels.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import number_of_key, shown, text

# Labels whose first name in Mask2Former's own table is another one than in SceneParse150.
_ADE20K_ALIASES = {
    "window": "windowpane",
    "tub": "bathtub",
    "rail": "railing",
    "street lamp": "streetlight",
    "tv": "television receiver",
    "plane": "airplane",
    "clothes": "apparel",
    "pool": "swimming pool",
    "falls": "waterfall",
    "trash can": "ashcan",
}


def stuff_label_ids(id2label: Mapping[int, str]) -> list[int] | None:
    """Return which labels are stuff when the names are those of COCO, ADE20K, Cityscapes or Mapillary Vistas.

    A part of a data set will do, such as its things alone. Names are compared by `label_key`.

    Args:
        id2label: Name of each label.

    Returns:
        The labels that are stuff, or None when no data set has all the names, or when those that have them disagree.
    """
    names = {label: label_key(name) for label, name in id2label.items()}
    tables = [table for table in _KNOWN_TABLES if names and table.keys() >= set(names.values())]
    answers = [[label for label, name in names.items() if not table[name]] for table in tables]
    return answers[0] if answers and all(answer == answers[0] for answer in answers) else None


def label_names(source: str) -> dict[int, str]:
    """Return the names of a data set's labels, in the order in which models of the field number them.

    Args:
        source: coco_panoptic, coco_instance, ade20k, ade20k_instance, cityscapes, cityscapes_instance or
            mapillary_vistas (those for instances are the things alone); or a JSON file with a list of names, or with a
            dict from number to name, as `id2label` in a config.json.

    Raises:
        ValueError: For any other name, and for a file of another kind.
    """
    if source.endswith(".json"):
        return _names_in_file(Path(source))
    tables = {
        "coco_panoptic": COCO_PANOPTIC,
        "coco_instance": COCO_PANOPTIC,
        "ade20k": ADE20K,
        "ade20k_instance": ADE20K,
        "cityscapes": CITYSCAPES,
        "cityscapes_instance": CITYSCAPES,
        "mapillary_vistas": MAPILLARY_VISTAS,
    }
    if source not in tables:
        raise ValueError(f"There are no label names for {source!r}, only for {', '.join(tables)} and .json files.")
    only_things = source.endswith("_instance")
    return dict(enumerate(name for name, is_thing in tables[source].items() if is_thing or not only_things))


def label_key(name: str) -> str:
    """Return what two spellings of one label's name have in common, the same for every user of names.

    Case, spaces, `-` and `_`, the endings `-merged`, `-other` and `-stuff`, and what is behind a comma or semicolon are
    of no account: "Tree-merged", "tree" and "tree, trees" have one key. Every other sign counts.
    """
    words = label_spelling(re.split(r";|,(?!\d)", name)[0])
    return re.sub(r"( (other|merged|stuff))+$", "", words) or label_spelling(name)


def label_spelling(name: str) -> str:
    """Return a name without case and without the difference between spaces, `-` and `_`."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).casefold()).strip() or name


def category_name(name: Any) -> str:
    """Return the name of a category as a text; a number is written out.

    Raises:
        ValueError: When it is neither a text nor a number.
    """
    is_number = isinstance(name, int | float) and not isinstance(name, bool)
    return text(shown(name) if is_number else name, "the name of a category", shortest=0)


def _names_in_file(path: Path) -> dict[int, str]:
    content = read_json(path)
    content = content.get("id2label", content) if isinstance(content, dict) else content
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a list of names, or a dict from number to name, got {shown(content)}.")
    try:
        names = {number_of_key(label): category_name(name) for label, name in content.items()}
    except ValueError as error:
        raise ValueError(f"{path} must name the labels 0, 1, 2, …: {error}.") from error
    if not names or sorted(names) != list(range(len(names))):
        raise ValueError(f"{path} must name the labels 0, 1, 2, … without a gap, got {sorted(names)[:5]}.")
    return dict(sorted(names.items()))


def _table(names: str) -> dict[str, bool]:
    # Names are separated by semicolons; ~ marks stuff.
    return {name.strip().removeprefix("~"): not name.strip().startswith("~") for name in names.split(";")}


COCO_PANOPTIC = _table(
    """
    person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire hydrant; stop sign;
    parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear; zebra; giraffe; backpack; umbrella;
    handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat; baseball glove; skateboard;
    surfboard; tennis racket; bottle; wine glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange;
    broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed; dining table; toilet; tv;
    laptop; mouse; remote; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; book; clock; vase;
    scissors; teddy bear; hair drier; toothbrush; ~banner; ~blanket; ~bridge; ~cardboard; ~counter; ~curtain;
    ~door-stuff; ~floor-wood; ~flower; ~fruit; ~gravel; ~house; ~light; ~mirror-stuff; ~net; ~pillow; ~platform;
    ~playingfield; ~railroad; ~river; ~road; ~roof; ~sand; ~sea; ~shelf; ~snow; ~stairs; ~tent; ~towel;
    ~wall-brick; ~wall-stone; ~wall-tile; ~wall-wood; ~water-other; ~window-blind; ~window-other; ~tree-merged;
    ~fence-merged; ~ceiling-merged; ~sky-other-merged; ~cabinet-merged; ~table-merged; ~floor-other-merged;
    ~pavement-merged; ~mountain-merged; ~grass-merged; ~dirt-merged; ~paper-merged; ~food-other-merged;
    ~building-other-merged; ~rock-merged; ~wall-other-merged; ~rug-merged
    """
)
"""Names and order of panoptic COCO's 133 labels, things first.

Source:
    detectron2 (Apache-2.0), builtin_meta.py.
"""

ADE20K = _table(
    """
    ~wall; ~building; ~sky; ~floor; ~tree; ~ceiling; ~road; bed; windowpane; ~grass; cabinet; ~sidewalk; person;
    ~earth; door; table; ~mountain; ~plant; curtain; chair; car; ~water; painting; sofa; shelf; ~house; ~sea;
    mirror; ~rug; ~field; armchair; seat; fence; desk; ~rock; wardrobe; lamp; bathtub; railing; cushion; ~base;
    box; column; signboard; chest of drawers; counter; ~sand; sink; ~skyscraper; fireplace; refrigerator;
    ~grandstand; ~path; stairs; ~runway; case; pool table; pillow; screen door; ~stairway; ~river; ~bridge;
    bookcase; ~blind; coffee table; toilet; flower; book; ~hill; bench; countertop; stove; palm; kitchen island;
    computer; swivel chair; boat; ~bar; arcade machine; ~hovel; bus; towel; light; truck; ~tower; chandelier;
    awning; streetlight; booth; television receiver; airplane; ~dirt track; apparel; pole; ~land; bannister;
    ~escalator; ottoman; bottle; ~buffet; ~poster; ~stage; van; ship; fountain; ~conveyer belt; ~canopy; washer;
    plaything; ~swimming pool; stool; barrel; basket; ~waterfall; ~tent; bag; minibike; ~cradle; oven; ball; food;
    step; ~tank; trade name; microwave; pot; animal; bicycle; ~lake; dishwasher; screen; ~blanket; sculpture;
    hood; sconce; vase; traffic light; tray; ashcan; fan; ~pier; ~crt screen; plate; monitor; bulletin board;
    ~shower; radiator; glass; clock; flag
    """
)
"""Names and order of SceneParse150, as in checkpoints on the Hub.

Source:
    Mask2Former (MIT), register_ade20k_panoptic.py for things and stuff.
"""

CITYSCAPES = _table(
    """
    ~road; ~sidewalk; ~building; ~wall; ~fence; ~pole; ~traffic light; ~traffic sign; ~vegetation; ~terrain; ~sky;
    person; rider; car; truck; bus; train; motorcycle; bicycle
    """
)
"""The 19 labels that are evaluated, in the order of their training ids.

Source:
    cityscapesScripts, as in detectron2 (Apache-2.0), builtin_meta.py.
"""

MAPILLARY_VISTAS = _table(
    """
    Bird; Ground Animal; ~Curb; ~Fence; ~Guard Rail; ~Barrier; ~Wall; ~Bike Lane; Crosswalk - Plain; ~Curb Cut;
    ~Parking; ~Pedestrian Area; ~Rail Track; ~Road; ~Service Lane; ~Sidewalk; ~Bridge; ~Building; ~Tunnel; Person;
    Bicyclist; Motorcyclist; Other Rider; Lane Marking - Crosswalk; ~Lane Marking - General; ~Mountain; ~Sand;
    ~Sky; ~Snow; ~Terrain; ~Vegetation; ~Water; Banner; Bench; Bike Rack; Billboard; Catch Basin; CCTV Camera;
    Fire Hydrant; Junction Box; Mailbox; Manhole; Phone Booth; ~Pothole; Street Light; Pole; Traffic Sign Frame;
    Utility Pole; Traffic Light; Traffic Sign (Back); Traffic Sign (Front); Trash Can; Bicycle; Boat; Bus; Car;
    Caravan; Motorcycle; ~On Rails; Other Vehicle; Trailer; Truck; Wheeled Slow; ~Car Mount; ~Ego Vehicle
    """
)
"""The 65 labels of version 1.2 that are evaluated.

Source:
    Mask2Former (MIT), register_mapillary_vistas_panoptic.py.
"""

_KNOWN_TABLES = [
    {label_key(name): is_thing for name, is_thing in table.items()}
    for table in (
        COCO_PANOPTIC,
        ADE20K | {alias: ADE20K[name] for alias, name in _ADE20K_ALIASES.items()},
        CITYSCAPES,
        MAPILLARY_VISTAS,
    )
]
