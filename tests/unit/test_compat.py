"""torchvision, torch-fidelity and pylidc can be imported, on any build of torch and beside today's NumPy."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import scangan.compat
from scangan.compat_pylidc import prepare_pylidc

IN_A_FRESH_PROCESS = """
import sys
from scangan.compat_pylidc import prepare_pylidc
assert "pylidc" not in sys.modules
pylidc = prepare_pylidc()
import numpy, pylidc.utils
assert prepare_pylidc() is pylidc
assert "torch" not in sys.modules and "pkg_resources" not in sys.modules
assert not hasattr(numpy, "int") and not hasattr(numpy, "float")
scan = pylidc.query(pylidc.Scan).first()
print(len(scan.cluster_annotations()), scan.annotations[0].surface_area > 0)
try:
    scan.to_volume(verbose=False)
except RuntimeError as error:
    print(error)
"""

WITHOUT_COMPILER = """
import sys
from scangan.compat_compiler import leave_out_compiler
leave_out_compiler()
import torch
import scangan.training.adversarial, scangan.metrics.features

def of_compiler():
    return [name for name in sys.modules if name.startswith("torch._dynamo")]

weight = torch.nn.Parameter(torch.ones(1))
for kind in (torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam):
    optimizer = kind([weight], lr=0.1)
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(len(of_compiler()), "sympy" in sys.modules)
# Who asks for more is given the compiler itself: by a module's name, or of the package.
if sys.argv[1] == "module":
    from torch._dynamo.source import LocalSource
else:
    assert torch._dynamo.is_dynamo_supported()
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item(), len(of_compiler()) > 10)
leave_out_compiler()
print(len(of_compiler()) > 10)
"""


def test_torchvision_and_torch_fidelity_import():
    importlib.import_module("torchvision")
    importlib.import_module("torch_fidelity")
    assert hasattr(torch.ops.torchvision, "nms")


def test_a_second_preparation_changes_nothing():
    scangan.compat.prepare_torchvision()
    importlib.reload(scangan.compat)
    assert hasattr(torch.ops.torchvision, "qnms")


def test_pylidc_imports_without_a_trace_elsewhere(tmp_path):
    """Neither NumPy, nor other packages, nor the home folder see that it was prepared."""
    surroundings = {"HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "matplotlib"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", IN_A_FRESH_PROCESS]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    clusters, message = done.stdout.splitlines()
    assert clusters == "4 True"
    assert message.startswith("Could not establish path to dicom files")
    assert not list(tmp_path.glob(".pylidc*"))


@pytest.mark.parametrize("asked", ["module", "package"])
def test_training_does_not_load_the_compiler_and_who_asks_is_given_it(asked):
    done = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER, asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "False", "2.0", "True", "True"]


@pytest.fixture
def series(tmp_path):
    """Three slices of a real scan's name, whose pixels are 10, 20 and 30 Hounsfield."""
    pylidc = prepare_pylidc()
    scan = pylidc.query(pylidc.Scan).first()
    (tmp_path / scan.patient_id).mkdir()
    for number in range(3):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, f"1.2.{number + 1}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = scan.study_instance_uid, scan.series_instance_uid
        slice_.InstanceNumber, slice_.ImagePositionPatient = number + 1, [0, 0, number]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 2, 2, 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, 10
        slice_.PixelData = np.full((2, 2), 10 * number, np.int16).tobytes()
        slice_.save_as(tmp_path / scan.patient_id / f"{number}.dcm", enforce_file_format=True)
    yield scan
    prepare_pylidc(tmp_path / "nowhere")


def test_pylidc_reads_dicom_from_a_given_folder(series, tmp_path):
    prepare_pylidc(tmp_path)
    prepare_pylidc()
    assert series.to_volume(verbose=False)[0, 0].tolist() == [10, 20, 30]
