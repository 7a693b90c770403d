"""What one CT series costs, from DICOM files to a 1.5 mm isotropic volume, beside what a user would have instead.

python benchmarks/ingest.py

Compared in one run, rounds interleaved: our listing, grouping, reading and resampling of the folder; pylidc's
`Scan.to_volume` and `scipy.ndimage.zoom` (order 1); SimpleITK's series reader and resampler; and the floor, the files'
bytes and their pixels alone. Files are in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

SLICES, SIZE = 200, 512
PIXEL_MM, SLICE_MM, NEW_MM = 0.7, 1.25, 1.5
ROUNDS = 15
NATIVE_BYTES = SLICES * SIZE * SIZE * 4  # the volume in float32
PATIENT, STUDY, SERIES = "LIDC-IDRI-0001", "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


def write_series(root: Path) -> None:
    """200 uncompressed slices with about 100 tags each, where pylidc looks first, and pylidc's database of them."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder = root / PATIENT / STUDY / SERIES
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40.0, -1000.0)
    lungs = (((np.abs(x) - 0.36) / 0.26) ** 2 + (y / 0.42) ** 2) < 1
    for number in range(SLICES):
        shown = np.where(lungs & (20 < number < 180), -850, body) + rng.normal(0, 25, body.shape)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword, value in header(number).items():
            setattr(dataset, keyword, value)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{SERIES}.{number}"
        block = dataset.private_block(0x0009, "GEMS_IDEN_01", create=True)
        for offset in range(20):
            block.add_new(offset, "LO", f"private value {offset}")
        dataset.PixelData = (shown + 1024).clip(0, 4095).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{number:06d}.dcm", enforce_file_format=True)
    write_database(root)


def header(number: int) -> dict[str, object]:
    """The tags of a scanner's CT slice."""
    texts = {
        keyword: "an entry of usual length"
        for keyword in (
            *("InstitutionName", "StationName", "StudyDescription", "SeriesDescription", "ManufacturerModelName"),
            *("ProtocolName", "BodyPartExamined", "FilterType", "SoftwareVersions", "DeviceSerialNumber"),
            *("InstitutionalDepartmentName", "PatientComments", "AdditionalPatientHistory", "ImageComments"),
            *("RequestedProcedureDescription", "PerformedProcedureStepDescription", "ContrastBolusAgent"),
            *("ContrastBolusRoute", "PositionReferenceIndicator", "Allergies", "Occupation", "AdmissionID"),
        )
    }
    for keyword in ("StationName", "BodyPartExamined", "FilterType", "ContrastBolusRoute", "Occupation"):
        texts[keyword] = "SHORT"
    numbers = {
        keyword: 120.0
        for keyword in (
            *("KVP", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector", "PatientWeight"),
            *("DistanceSourceToPatient", "GantryDetectorTilt", "TableHeight", "FocalSpots", "SliceLocation"),
        )
    }
    whole = {
        keyword: 100
        for keyword in ("ExposureTime", "XRayTubeCurrent", "Exposure", "GeneratorPower", "AcquisitionNumber")
    }
    moments = {f"{kind}Date": "20000101" for kind in ("Study", "Series", "Acquisition", "Content", "InstanceCreation")}
    moments |= {f"{kind}Time": "101112.123" for kind in ("Study", "Series", "Acquisition", "Content")}
    return (
        texts
        | numbers
        | whole
        | moments
        | {
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "Modality": "CT",
            "Manufacturer": "Benchmark",
            "ConvolutionKernel": "STANDARD",
            "PatientName": "Nobody^Nowhere",
            "PatientID": PATIENT,
            "PatientBirthDate": "19500101",
            "PatientSex": "O",
            "PatientAge": "050Y",
            "PatientPosition": "FFS",
            "AccessionNumber": "1",
            "ReferringPhysicianName": "Nobody^Here",
            "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": SERIES,
            "FrameOfReferenceUID": f"{STUDY}.1",
            "StudyID": "1",
            "SeriesNumber": 3,
            "InstanceNumber": number + 1,
            "SliceThickness": 2.5,
            "SpacingBetweenSlices": SLICE_MM,
            "ImagePositionPatient": [-179.2, -179.2, -300 + SLICE_MM * number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [PIXEL_MM, PIXEL_MM],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": SIZE,
            "Columns": SIZE,
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
            "WindowCenter": 40,
            "WindowWidth": 400,
            "RescaleIntercept": -1024,
            "RescaleSlope": 1,
            "RescaleType": "HU",
        }
    )


def write_database(root: Path) -> None:
    """One scan in pylidc's schema."""
    from sqlalchemy import create_engine, insert

    from scangan.compat_pylidc import prepare_pylidc

    pylidc = prepare_pylidc()
    tables = pylidc.Scan.metadata.tables
    engine = create_engine(f"sqlite:///{root / 'annotations.sqlite'}")
    pylidc.Scan.metadata.create_all(engine)
    facts = {"study_instance_uid": STUDY, "series_instance_uid": SERIES, "patient_id": PATIENT}
    facts |= {"slice_thickness": 2.5, "pixel_spacing": PIXEL_MM, "contrast_used": False, "is_from_initial": True}
    with engine.begin() as connection:
        (scan,) = connection.execute(insert(tables["scans"]).values(facts)).inserted_primary_key
        values = [{"scan_id": scan, "val": -300 + SLICE_MM * number} for number in range(SLICES)]
        connection.execute(insert(tables["zvals"]), values)
    engine.dispose()


# Each imports what it needs, and returns what is measured: root -> volume.


def prepare_ours(threads: int) -> Callable[[Path], np.ndarray]:
    import torch

    from scangan.ct.volume import resample
    from scangan.ingest.data_files import list_files
    from scangan.ingest.dicom import find_series, read_series

    torch.set_num_threads(threads)

    def read(root: Path) -> np.ndarray:
        [series], _ = find_series(list_files(root / PATIENT).files, root)
        scan = read_series(series.files)
        return resample(scan.voxels, scan.affine, NEW_MM).hounsfield

    return read


def prepare_pylidc_and_scipy(threads: int) -> Callable[[Path], np.ndarray]:
    from scipy.ndimage import zoom

    from scangan.compat_pylidc import prepare_pylidc
    from scangan.ingest.lidc import open_annotations

    def read(root: Path) -> np.ndarray:
        pylidc = prepare_pylidc(root)
        with open_annotations(root / "annotations.sqlite") as session:
            scan = session.query(pylidc.Scan).one()
            return zoom(scan.to_volume(verbose=False), scan.spacings / NEW_MM, order=1)

    return read


def prepare_simpleitk(threads: int) -> Callable[[Path], np.ndarray]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)

    def read(root: Path) -> np.ndarray:
        reader = sitk.ImageSeriesReader()
        folder = str(root / PATIENT / STUDY / SERIES)
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder, SERIES))
        image = reader.Execute()
        resampler = sitk.ResampleImageFilter()
        resampler.SetInterpolator(sitk.sitkLinear)
        lengths = zip(image.GetSize(), image.GetSpacing(), strict=True)
        resampler.SetSize([int(number * spacing / NEW_MM) for number, spacing in lengths])
        resampler.SetOutputSpacing([NEW_MM] * 3)
        resampler.SetOutputOrigin(image.GetOrigin())
        resampler.SetOutputDirection(image.GetDirection())
        return sitk.GetArrayFromImage(resampler.Execute(image))

    return read


def prepare_floor(threads: int) -> Callable[[Path], np.ndarray]:
    def read(root: Path) -> np.ndarray:
        voxels = np.empty((SLICES, SIZE, SIZE), np.int16)
        files = sorted((root / PATIENT / STUDY / SERIES).iterdir())
        for file, target in zip(files, voxels, strict=True):
            pixels = np.frombuffer(file.read_bytes()[-2 * SIZE * SIZE :], np.int16)
            np.add(pixels.reshape(SIZE, SIZE), np.int16(-1024), out=target)
        return voxels

    return read


METHODS = {
    "ours": prepare_ours,
    "pylidc + scipy": prepare_pylidc_and_scipy,
    "SimpleITK": prepare_simpleitk,
    "floor": prepare_floor,
}


def time_methods(root: Path, threads: int) -> dict[str, list[float]]:
    """Seconds of each round of each method, all in this process; one round before them is not counted."""
    methods = {name: prepare(threads) for name, prepare in METHODS.items()}
    seconds = {name: [] for name in methods}
    for measured in [False] + [True] * ROUNDS:
        for name, read in methods.items():
            start = time.perf_counter()
            read(root)
            if measured:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure_memory(root: Path, name: str) -> dict[str, int]:
    """Bytes of this process' memory at its peak: before, with everything imported, and after."""
    read = METHODS[name](1)
    before = peak_memory()
    read(root)
    return {"imports": before, "peak": peak_memory()}


def peak_memory() -> int:
    # Not getrusage's: a new process begins with that of the one which started it.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def in_process_of_its_own(*arguments: str, threads: int) -> dict:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, __file__, *arguments, "--threads", str(threads)]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def compare_ingestion() -> None:
    """Print time and memory of all methods, ours as ratios to the others."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_series(root)
        title = f"one series of {SIZE}x{SIZE}x{SLICES} DICOM slices to an isotropic volume of {NEW_MM} mm"
        print(f"{title}; files in the system's cache")
        print(f"{'threads':>7} {'':<15} {'median':>9}   times ours: median (lowest to highest of {ROUNDS})")
        for threads in (1, 2):
            seconds = in_process_of_its_own("--time", folder, threads=threads)
            for name, times in seconds.items():
                ratios = sorted(time / ours for time, ours in zip(times, seconds["ours"], strict=True))
                print(
                    f"{threads:>7} {name:<15} {statistics.median(times):>7.3f} s"
                    f"   {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                    flush=True,
                )
        print(f"peak memory as a multiple of the volume in float32 ({NATIVE_BYTES / 2**20:.0f} MiB)")
        print(f"{'':<23} {'added by reading':>16} {'whole process':>15}")
        for name in METHODS:
            found = in_process_of_its_own("--memory", folder, name, threads=1)
            added, whole = ((found["peak"] - less) / NATIVE_BYTES for less in (found["imports"], 0))
            print(f"{'':>7} {name:<15} {added:>16.2f} {whole:>15.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory", metavar=("FOLDER", "METHOD"), nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.time is not None:
        print(json.dumps(time_methods(chosen.time, chosen.threads)))
    elif chosen.memory is not None:
        print(json.dumps(measure_memory(Path(chosen.memory[0]), chosen.memory[1])))
    else:
        compare_ingestion()
