"""Three or more classes: metrics of all of them alike and of each, beside scikit-learn's."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
import torch

from scangan.config import Evaluation
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.classification import align_classes, align_images, class_names
from scangan.metrics.classifier_metrics import Classes, metric_names, metrics_of, weighted_metrics
from scangan.metrics.comparison import compare_arms, influence_of_patients
from scangan.metrics.confusion import count_calls
from scangan.metrics.scores import score_arms
from scangan.metrics.verdict import reach_verdict
from scangan.training.supervised import against_the_rest, class_weights, weighted_loss

NAMES = ("a", "b", "c", "d")
SETTINGS = Evaluation(bootstrap=200, primary="macro_auc")


def predictions_of(strength, seed, images=80, part="test", names=NAMES):
    """Predictions with which each class is told from the others the better, the greater the strength."""
    rng = np.random.default_rng(seed)
    label = np.arange(images) % len(names)
    logits = rng.normal(size=(images, len(names))) + strength * np.eye(len(names))[label]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "image_id": [f"{part}-{number:03}" for number in range(images)],
            "patient_id": [f"{part}-{number // (2 * len(names))}" for number in range(images)],
            "label": np.array(names)[label],
            "split": part,
            "probability": probability[:, 0],
        }
    )
    return table.assign(**{f"probability:{name}": probability[:, place] for place, name in enumerate(names)})


def of_arms(strengths, trainings=3):
    return {
        arm: [
            pd.concat([predictions_of(strength, 10 * place + seed, part=part) for part in ("validation", "test")])
            for seed in range(trainings)
        ]
        for place, (arm, strength) in enumerate(strengths.items())
    }


def test_metrics_of_classes_are_those_of_scikit_learn():
    tables = [predictions_of(1.0, seed) for seed in range(2)]
    classes = align_classes({"real": tables}, tables[0])["real"]
    truth, called = classes.label, classes.probability.argmax(axis=2)
    weights = np.stack([np.ones(80), np.random.default_rng(3).integers(1, 4, 80)]).astype(float)
    ours = weighted_metrics(classes.probability[:, :, 0], truth == 0, weights, classes=classes)
    assert list(ours) == metric_names(NAMES)
    for row, sample_weight in enumerate(weights):
        for seed in range(2):
            how = {"sample_weight": sample_weight}
            expected = {
                "accuracy_of_classes": reference.accuracy_score(truth, called[seed], **how),
                "balanced_accuracy": reference.balanced_accuracy_score(truth, called[seed], **how),
                "macro_f1": reference.f1_score(truth, called[seed], average="macro", **how),
                "macro_auc": reference.roc_auc_score(
                    truth, classes.probability[seed], multi_class="ovr", average="macro", **how
                ),
                "auc": reference.roc_auc_score(truth == 0, classes.probability[seed, :, 0], **how),
            }
            for name, of_each in (("recall", reference.recall_score), ("precision", reference.precision_score)):
                values = of_each(truth, called[seed], average=None, **how)
                expected |= {f"{name}:{each}": value for each, value in zip(NAMES, values, strict=True)}
            for metric, value in expected.items():
                assert ours[metric][row, seed] == pytest.approx(value), metric


def test_a_class_that_is_never_called_has_a_precision_of_0():
    probability = np.tile([0.6, 0.3, 0.1], (1, 6, 1))
    classes = Classes(("a", "b", "c"), np.arange(6) % 3, probability)
    found = weighted_metrics(probability[:, :, 0], classes.label == 0, np.ones((1, 6)), classes=classes)
    assert [found[f"precision:{name}"].item() for name in "abc"] == pytest.approx([1 / 3, 0, 0])
    assert [found[f"recall:{name}"].item() for name in "abc"] == [1, 0, 0]
    assert found["macro_f1"].item() == pytest.approx(0.5 / 3)  # sklearn: f1_score(..., average="macro")
    assert found["macro_auc"].item() == 0.5


def test_scores_of_all_classes_stand_beside_those_of_one_against_the_rest():
    predictions = of_arms({"real": 1.0})
    assert class_names(predictions) == NAMES
    scores = score_arms(predictions, "a")
    assert list(scores["metric"]) == metric_names(NAMES)
    assert scores["value"].between(scores["ci_low"], scores["ci_high"]).all()
    two = {arm: [table[table.columns[:5]] for table in tables] for arm, tables in predictions.items()}
    alone = score_arms(two, "a")
    assert list(alone["metric"]) == metric_names()
    both = scores.merge(alone, on=["arm", "metric"])
    assert len(both) == len(metric_names())
    assert (both["value_x"] == both["value_y"]).all()


def test_the_verdict_can_be_of_a_macro_score():
    arms = of_arms({"real": 0.2, "real+synthetic": 2.5})
    comparisons = compare_arms(arms, "a", SETTINGS)
    assert list(comparisons["metric"]) == metrics_of("classification", NAMES)
    row = comparisons.set_index("metric").loc["macro_auc"]
    values = score_arms(arms, "a").query("metric == 'macro_auc'").set_index("arm")["value"]
    assert row["difference"] == pytest.approx(values["real+synthetic"] - values["real"])
    assert row["p_holm"] < 0.05
    assert comparisons["p_holm"].notna().sum() == 1
    facts = Facts("mine", "real", "custom", positive="a", negatives=("b", "c", "d"))
    verdict = reach_verdict(comparisons, {"real": 0, "real+synthetic": 0}, SETTINGS, facts)
    assert verdict.outcome == "helps"
    assert "macro_auc of `real+synthetic` minus that of `real`" in verdict.sentence
    assert "a, b, c and d alike" in verdict.sentence


def test_a_macro_score_is_jackknifed_within_patients_of_the_same_classes():
    table = predictions_of(1.0, 0)
    cases, _ = align_images({"real": [table]})
    classes = align_classes({"real": [table]}, cases)["real"]
    patient = np.arange(80)
    found = influence_of_patients(
        classes.probability[:, :, 0], classes.label == 0, patient, ["macro_auc", "balanced_accuracy"], classes=classes
    )
    recalls = [reference.recall_score(classes.label, classes.probability[0].argmax(1), average=None)]
    variance = np.mean([recall * (1 - recall) / 19 for recall in recalls[0]]) / 4  # of a mean of four shares of 20
    assert (found["balanced_accuracy"] ** 2).sum() == pytest.approx(variance)
    for number in range(4):
        assert found["macro_auc"][0, classes.label == number].sum() == pytest.approx(0, abs=1e-12)


def test_a_class_of_a_single_patient_leaves_macro_scores_without_an_interval():
    predictions = of_arms({"real": 1.0, "real+synthetic": 1.0})
    for tables in predictions.values():
        for table in tables:
            table.loc[table["label"] == "d", "patient_id"] = "one"
    found = compare_arms(predictions, "a", SETTINGS).set_index("metric")
    assert found.loc["macro_auc", ["difference_low", "p_holm"]].isna().all()
    assert found.loc["auc", ["difference_low"]].notna().all()
    assert found.loc["macro_auc", "smaller_class"] == 1 < found.loc["auc", "smaller_class"]


def test_a_class_without_test_images_is_named():
    predictions = of_arms({"real": 1.0})
    predictions = {arm: [table[table["label"] != "c"] for table in tables] for arm, tables in predictions.items()}
    with pytest.raises(DataError, match="found none of c in the test set, allowed: all classes"):
        score_arms(predictions, "a")


def test_confusion_counts_who_is_called_what():
    predictions = of_arms({"real": 1.0, "synthetic": 0.0}, trainings=2)
    table = count_calls(predictions)
    for arm, tables in predictions.items():
        expected = np.mean(
            [
                reference.confusion_matrix(
                    test["label"], np.array(NAMES)[test.filter(like="probability:").to_numpy().argmax(1)]
                )
                for test in (each[each["split"] == "test"] for each in tables)
            ],
            axis=0,
        )
        own = table[table["arm"] == arm]
        assert own["images"].to_numpy().reshape(4, 4) == pytest.approx(expected)
        assert own["share"].to_numpy().reshape(4, 4) == pytest.approx(expected / expected.sum(axis=1, keepdims=True))


def test_in_the_loss_every_class_weighs_the_same():
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 0])
    weights = class_weights(targets, "here")
    assert [weights[targets == number].sum().item() for number in range(3)] == pytest.approx([10 / 3] * 3)
    # Half of a batch are the first five images, which have four of class 0, one of 1 and none of 2.
    shared = class_weights(targets, "here", real=5, real_share=0.5)
    drawn = [10 * (0.5 * of_first + 0.5 * of_others) for of_first, of_others in ((0.8, 0.2), (0.2, 0.2), (0, 0.6))]
    for number in range(3):
        assert shared[targets == number].unique().tolist() == pytest.approx([10 / (3 * drawn[number])])
    with pytest.raises(DataError, match="here: label: found no images of class 1, allowed: some of every class"):
        class_weights(torch.tensor([0, 2, 2]), "here")


def test_the_loss_is_the_weighted_mean_of_cross_entropies():
    logits, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 0, 2])
    weights = class_weights(targets, "here")
    of_class = torch.tensor([weights[targets == number][0] for number in range(3)])
    expected = torch.nn.functional.cross_entropy(logits, targets, weight=of_class, reduction="sum") / 6
    assert weighted_loss(logits, targets, weights).item() == pytest.approx(expected.item())


def test_one_class_against_the_rest_has_its_softmax():
    model = torch.nn.Linear(4, 3)
    images = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    logit = against_the_rest(model, ["a", "b", "c"], "b")(images)
    assert logit.shape == (5,)
    torch.testing.assert_close(logit.sigmoid(), model(images).softmax(1)[:, 1])
