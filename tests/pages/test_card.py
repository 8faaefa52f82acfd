"""The model card tells the same facts as the report, in Markdown that no name can break."""

from __future__ import annotations

from pathlib import Path

from facts_of_runs import made_up_facts, made_up_scores

from visus.pages.card import card_text, write_card


def test_the_card_is_the_text_below(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", made_up_facts())
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == CARD


def test_names_are_taken_for_names() -> None:
    text = card_text(made_up_facts(made_up_scores(classes=["a|b", "<i>", "c\nd"]), name="*x*", command="echo ```"))
    assert text.startswith("# \\*x\\*\n")
    assert "| a\\|b | 20 |" in text
    assert "| \\<i\\> | 20 |" in text
    assert "| c d | 20 |" in text
    assert "````\necho ```\n````" in text


def test_a_class_that_was_not_scored_is_a_limit() -> None:
    scores = made_up_scores(classes=["bag", "boot", "coat"], num_samples=2, num_wrong=0)
    text = card_text(made_up_facts(scores))
    assert "- Nothing is known of how well it finds “coat”: there was none to score.\n" in text
    assert "| coat | 0 | \u2013 | \u2013 | \u2013 |" in text


def test_a_design_that_was_written_out_is_not_told_in_a_sentence() -> None:
    text = card_text(made_up_facts(network="conv(32, 3, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)"))
    assert "A convolutional network with 12,345 parameters." in text


def test_many_classes_are_not_listed() -> None:
    text = card_text(made_up_facts(made_up_scores(40)))
    assert "40 classes, listed in `classes.txt`; their figures are in `scores.json`." in text


CARD = """\
# shoes-2

A convolutional network (compact) with 12,345 parameters. It takes 1 x 28 x 28 values and gives a probability for each of 3 \
classes. Trained on shoes, 2031-05-04 14:05.

## Result

The network names 54 of 60 images of the test split correctly: 90.0 %. For many more images like these, expect between \
79.9 % and 95.3 % (95 % interval). Always guessing “bag” would be correct for 33.3 %.

On average the network is 90.0 % sure of its answer and correct for 90.0 %: the two agree within one point. Over images of \
equal confidence, confidence and accuracy differ by 0.0 points on average (expected calibration error, 15 bins).

## Classes

| class | images scored | precision | recall | F1 |
|---|---:|---:|---:|---:|
| bag | 20 | 90.0 % | 90.0 % | 90.0 % |
| boot | 20 | 90.0 % | 90.0 % | 90.0 % |
| coat | 20 | 90.0 % | 90.0 % | 90.0 % |

## Data

- Kind: a folder for each class
- training: 300 images
- test: 60 images
- 2 images were turned upright.

## Limits

- It knows these 3 classes and gives one of them to whatever it is shown; it has no answer for anything else.
- The figures hold for images like those that it was scored on. Images from another source can differ in ways that no \
figure here tells.
- It finds “bag” least often: 90.0 % of 20 images.
- coat is rare.

## What is done before the network sees it

This travels with the weights; `visus predict` does it of itself.

- Each image is brought to 28 x 28 with 1 channel, scaled and cut to fit.
- From the values the mean of the training split is taken (72.94) and they are divided by its standard deviation (90.1).
- Values are kept as uint8 until then.

## Use

```
visus predict RUN FILES
visus evaluate RUN
```

`RUN` is this folder.

## Repeat

```
visus train shoes --seed 7
```

- Training time: 3 min 07 s
- Epochs: 3
- Images per second: 2,000 (mean of the epochs)
- Device: cpu (Some CPU)
- Precision: bfloat16: asked for
- Memory layout: channels last
- Processor cores: 4, of which PyTorch used 2
- Seed: 7
- Computed with: visus 0.1.0, python 3.13.0, torch 2.13.0

`report.html` shows all of this and more, `recipe.yaml` holds every setting.
"""
