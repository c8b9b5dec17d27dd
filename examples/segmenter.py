# SPDX-License-Identifier: Apache-2.0
"""All that `Segmenter` does, one line after the other: images in, results out; a data set in, scores and a model out.

    python examples/segmenter.py runs/quickstart my_photos/ data/mine

The first is a checkpoint: a folder, a run, a file of the original code, or an id of the Hugging Face Hub. The second is
a photo or a folder of photos, the third a data set with annotations, whose splits are `train` and `val`.
"""

import argparse
from pathlib import Path

from unisegment import Segmenter
from unisegment.data.image_sources import open_images
from unisegment.runs.settings import parse_overrides


def look_at_one_image(segmenter: Segmenter, photo: str, output: Path) -> None:
    """Segment one image; all that follows is made of one pass through the network."""
    # A path, an address, bytes, an image of Pillow, an array or a tensor; a list gives a list.
    result = segmenter(photo)
    print(result)  # a table, the largest segments first
    print("labels:", [segment["label"] for segment in result.panoptic.segments_info])
    print("objects:", len(result.instance.segments_info), "semantic:", tuple(result.semantic.segmentation.shape))

    result.draw("panoptic").save(output / "seen.png")
    print("files:", *(file.name for file in result.save(output / "one")))

    sure = result.panoptic.filter(score=0.9)
    print("sure:", sure.count(), "of", result.panoptic.count())
    for segment in result.measure(sure):
        print(f"{segment['label']}: {segment['area']} pixels, box {segment['box']}, centre {segment['centroid']}")
    print("outlines:", [len(rings) for rings in result.polygons("instance", tolerance=1.0)])
    print("COCO:", [sorted(entry) for entry in result.to_coco("instance")][:1])
    try:
        print("supervision:", len(result.to_supervision("instance")), "detections")
    except ImportError as error:
        print("supervision:", error)


def go_through_many(segmenter: Segmenter, photos: str, output: Path) -> None:
    """Segment many images: one result after the other, or files, from where an earlier call stopped."""
    for result in segmenter.stream(photos, batch_size=8):  # iterators, too, of any length
        print(result.name, result.panoptic.count())
    print("pictures:", segmenter.predict(photos, output / "pictures", to="pictures"))
    print("again:", segmenter.predict(photos, output / "pictures", to="pictures"))


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="what to open")
    parser.add_argument("photos", help="a photo or a folder of photos")
    parser.add_argument("data", nargs="?", help="a data set; without one, nothing is evaluated or trained")
    parser.add_argument("--output", type=Path, default=Path("segmenter-example"), help="folder for everything")
    parser.add_argument("--set", nargs="*", default=["schedule.epochs=1"], metavar="KEY=VALUE", help="how to train")
    parser.add_argument("--push", metavar="USER/NAME", help="upload the trained model to the Hugging Face Hub")
    words = parser.parse_args()
    words.output.mkdir(parents=True, exist_ok=True)

    segmenter = Segmenter.from_pretrained(words.checkpoint, device=None, dtype="auto", compile=False)
    print(segmenter)
    look_at_one_image(segmenter, open_images(words.photos)[0].file_name, words.output)
    go_through_many(segmenter, words.photos, words.output)
    if words.data is None:
        return
    print("PQ:", segmenter.evaluate(words.data, split="val")["pq"])
    settings = parse_overrides(words.set)  # as on the command line; epochs=50 is one of the keywords
    trained = Segmenter.fit(words.data, start=words.checkpoint, output_dir=words.output / "run", **settings)
    print("trained:", trained, "PQ:", trained.evaluate(words.data, split="val")["pq"])
    if words.push is not None:
        print("address:", trained.push(words.push))


if __name__ == "__main__":
    main()
