"""The model card holds the same facts as the report, in Markdown that no name can break."""

from __future__ import annotations

from pathlib import Path

from facts_of_runs import made_up_facts, made_up_scores

from visus.pages.card import card_text, write_card


def test_the_card_is_the_text_below(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", made_up_facts())
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == CARD


def test_markdown_in_names_is_escaped() -> None:
    text = card_text(made_up_facts(made_up_scores(classes=["a|b", "<i>", "c\nd"]), name="*x*", command="echo ```"))
    assert text.startswith("# \\*x\\*\n")
    assert "| a\\|b | 20 |" in text
    assert "| \\<i\\> | 20 |" in text
    assert "| c d | 20 |" in text
    assert "````\necho ```\n````" in text


def test_a_class_without_samples_is_a_limitation() -> None:
    scores = made_up_scores(classes=["bag", "boot", "coat"], num_samples=2, num_wrong=0)
    text = card_text(made_up_facts(scores))
    assert "- The recall of “coat” is unknown: there was no such image to evaluate on.\n" in text
    assert "| coat | 0 | \u2013 | \u2013 | \u2013 |" in text


def test_a_long_design_is_not_repeated_in_a_sentence() -> None:
    text = card_text(made_up_facts(network="conv(32, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)"))
    assert "A convolutional network with 12,345 parameters." in text


def test_many_classes_are_not_listed() -> None:
    text = card_text(made_up_facts(made_up_scores(40)))
    assert "40 classes, listed in `classes.txt`; their metrics are in `scores.json`." in text


CARD = """\
# shoes-2

A convolutional network (compact) with 12,345 parameters. It reads samples of 1 x 28 x 28 and returns a probability for each of \
3 classes. Trained on shoes, 2031-05-04 14:05.

## Result

The network classifies 54 of 60 images of the test set correctly: an accuracy of 90.0 %. On more images like these, expect an \
accuracy between 79.9 % and 95.3 % (95 % confidence interval). The baseline, always predicting “bag”, has an accuracy of 33.3 %.

The mean confidence is 90.0 % and the accuracy is 90.0 %: they agree within one percentage point. The expected calibration \
error, the mean gap between confidence and accuracy over 15 bins, is 0.0 percentage points.

## Classes

| class | images | precision | recall | F1 |
|---|---:|---:|---:|---:|
| bag | 20 | 90.0 % | 90.0 % | 90.0 % |
| boot | 20 | 90.0 % | 90.0 % | 90.0 % |
| coat | 20 | 90.0 % | 90.0 % | 90.0 % |

## Data

- Kind: a folder for each class
- training: 300 images
- test: 60 images
- 2 images were turned upright.

## Limitations

- The network predicts one of these 3 classes for every image, even for one that belongs to none of them.
- The metrics hold for images like those of this evaluation. They can differ for images from another source.
- The lowest recall is that of “bag”: 90.0 % of 20 images.
- the class coat is rare.

## Preprocessing

The preprocessing is stored with the weights; `visus predict` applies it.

- Each image is converted to 28 x 28 with 1 channel, resized and cropped.
- Pixels are normalized with the mean and the standard deviation of the training set: (value - 72.94) / 90.1.
- Values are stored as uint8 before normalization.

## Usage

```
visus predict RUN FILES
visus evaluate RUN
```

`RUN` is this folder.

## Reproducing this run

```
visus train shoes --seed 7
```

- Training time: 3 min 07 s (steps and validation)
- Epochs: 3
- Images per second: 2,000
- Device: cpu (Some CPU)
- Precision: bfloat16: asked for
- Memory format: channels-last
- CPU cores: 4; PyTorch used 2
- Seed: 7
- Versions: visus 0.1.0, python 3.13.0, torch 2.13.0

`report.html` shows all of this and more, `recipe.yaml` holds every setting.
"""
