"""ci/make_dataset.py, run as a user runs it: a process with a command line, an exit code and files.  About 20 s."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).resolve().parents[1] / "ci" / "make_dataset.py"
DIGITS = ("digits",)
PHOTOS = ("imagenet-like", "--classes", "2", "--per-class", "1")
ENDLESS = ("imagenet-like", "--classes", "10", "--per-class", "400", "--workers", "2")  # 20 s

# sha256 of the sorted file names of the default split, each with a line feed: results of all time share this split.
DIGITS_NAMES = "a534d1d1343237d331786c18e78353670658f002f7a0c69a0ef58c8ddfe54e66"


def make(out, *options, env=None):
    """Run the script to its end; return the CompletedProcess."""
    kind, *rest = options
    return subprocess.run([sys.executable, SCRIPT, kind, out, *map(str, rest)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, **(env or {})})


def made(out, *options):
    """Run the script, which must succeed with one line of output; return that line."""
    done = make(out, *options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout


def refused(done, code, *words):
    """Assert that `done` failed with `code` and one sentence that has all `words`."""
    assert done.returncode == code, done
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in ("make_dataset.py: error: ", *words)), done.stderr


def names(root, split="."):
    return sorted(path.relative_to(root / split).as_posix() for path in (root / split).rglob("*.jpg"))


def digest(root):
    """Return {name: sha256 of the file} of all files under `root`, JPEG or not."""
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*") if path.is_file()}


def total_bytes(root):
    return sum(path.stat().st_size for path in root.rglob("*.jpg"))


def pixels(path, size=None):
    """Return (H, W, 3) float64 of an image that must be a complete RGB JPEG; `size` (W, H) resizes it."""
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB"), path
        image.load()
        return np.asarray(image if size is None else image.resize(size, Image.Resampling.BOX), dtype=np.float64)


def load(root, split, feature):
    """Return features (n, d) and labels (n,) str of a split."""
    paths = sorted((root / split).rglob("*.jpg"))
    return np.stack([feature(path) for path in paths]), np.array([path.parent.name for path in paths])


def nearest_centroid_accuracy(root, feature):
    """Return the share of val that is nearest to the centroid of its own class in train."""
    train_x, train_y = load(root, "train", feature)
    val_x, val_y = load(root, "val", feature)
    classes = np.unique(train_y)
    centroids = np.stack([train_x[train_y == name].mean(axis=0) for name in classes])
    distances = ((val_x[:, None] - centroids) ** 2).sum(axis=-1)
    return (classes[distances.argmin(axis=1)] == val_y).mean()


# ---- digits ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    pytest.importorskip("sklearn")
    root = tmp_path_factory.mktemp("digits") / "set"
    return root, made(root, "digits", "--size", 64)


def test_digits_split_is_fixed_and_disjoint(digits):
    root, line = digits
    train, val = (set(name.split("/")[-1] for name in names(root, split)) for split in ("train", "val"))
    assert not train & val and len(train | val) == 1797
    assert len(val) == 359 and len(val) % 8 != 0
    assert hashlib.sha256("".join(f"{name}\n" for name in names(root)).encode()).hexdigest() == DIGITS_NAMES
    assert "1797 images (train 1438, val 359 = 44 x 8 + 7), 10 classes" in line
    assert f" {total_bytes(root)} bytes" in line and str(root) in line


def test_digits_has_each_class_in_both_in_proportion(digits):
    root, _ = digits
    for label in map(str, range(10)):
        train, val = (len(list((root / split / label).iterdir())) for split in ("train", "val"))
        assert 174 <= train + val <= 183, label  # scikit-learn's own counts
        assert abs(val - 0.2 * (train + val)) <= 1, label
    assert sorted(os.listdir(root)) == ["train", "val"]
    assert sorted(os.listdir(root / "train")) == sorted(os.listdir(root / "val")) == [str(n) for n in range(10)]


def test_digits_files_are_the_images_of_scikit_learn(digits):
    from sklearn.datasets import load_digits
    root, _ = digits
    source = load_digits()
    for name in names(root):
        image = pixels(root / name)
        assert image.shape == (64, 64, 3), name
        _, label, file = name.split("/")
        index = int(file[:-len(".jpg")])
        assert source.target[index] == int(label)
        # The mean of each 8 x 8 block follows its source pixel; bicubic smooths, so it is not equal.
        blocks = image.mean(axis=-1).reshape(8, 8, 8, 8).mean(axis=(1, 3))
        assert np.corrcoef(blocks.ravel(), source.images[index].ravel())[0, 1] > 0.95, name
        assert np.abs(blocks.mean() - source.images[index].mean() * 255 / 16) < 3, name  # 0..16 is all of 0..255


def test_digits_can_be_learnt(digits):
    assert nearest_centroid_accuracy(digits[0], lambda path: pixels(path, (8, 8)).ravel()) > 0.8


def test_digits_again_is_the_same_and_another_seed_is_not(digits, tmp_path):
    made(tmp_path / "again", "digits")
    made(tmp_path / "seed", "digits", "--seed", 1)
    assert digest(tmp_path / "again") == digest(digits[0])
    assert names(tmp_path / "seed", "val") != names(digits[0], "val")


@pytest.mark.parametrize("fraction", ["0.0001", "0.0205", "0.1605", "0.9999"])
def test_digits_val_is_never_a_multiple_of_8(tmp_path, fraction):  # 0.0205 and 0.1605 would be 40 and 288
    pytest.importorskip("sklearn")
    root = tmp_path / "set"
    made(root, "digits", "--size", 8, "--val-fraction", fraction)
    counts = [len(names(root / split / str(label))) for split in ("train", "val") for label in range(10)]
    assert min(counts) >= 1 and sum(counts) == 1797 and sum(counts[10:]) % 8 != 0


def test_digits_without_scikit_learn_says_so(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sklearn.py").write_text("raise ImportError('No module named sklearn')\n")
    done = make(tmp_path / "set", "digits", env={"PYTHONPATH": str(tmp_path / "broken")})
    refused(done, 1, "scikit-learn", "pip install scikit-learn")
    assert os.listdir(tmp_path) == ["broken"]


# ---- imagenet-like -----------------------------------------------------------------------------------------------

CLASSES, TRAIN, VAL = 8, 12, 5


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos") / "set"
    options = ("--classes", CLASSES, "--per-class", TRAIN, "--val-per-class", VAL)
    return root, made(root, "imagenet-like", *options)


def test_photos_layout_and_counts(photos):
    root, line = photos
    classes = [f"n{number:08d}" for number in range(1, CLASSES + 1)]
    for split, count in (("train", TRAIN), ("val", VAL)):
        assert sorted(os.listdir(root / split)) == classes
        assert {len(list((root / split / name).iterdir())) for name in classes} == {count}
    assert f"{CLASSES * (TRAIN + VAL)} images (train {CLASSES * TRAIN}, val {CLASSES * VAL} = " in line
    assert f"{CLASSES} classes, {total_bytes(root)} bytes" in line


def test_photos_are_all_different(photos):
    hashes = digest(photos[0])
    assert len(set(hashes.values())) == len(hashes)  # in particular, none of val is in train


def test_photos_have_the_shapes_of_imagenet(photos):
    shapes = [pixels(photos[0] / name).shape[:2] for name in names(photos[0])]
    sides = np.array([sorted(shape) for shape in shapes])
    assert sides.min() >= 300 and sides.max() <= 640
    assert np.allclose(sides.mean(axis=0), (375, 500), atol=25)
    assert shapes.count((375, 500)) > len(shapes) / 3
    landscape = np.mean([width > height for height, width in shapes])
    portrait = np.mean([width < height for height, width in shapes])
    assert landscape > portrait > 0.05


def test_photos_have_the_file_size_of_imagenet(photos):
    root, line = photos
    mean = total_bytes(root) / len(names(root))
    assert 80e3 < mean < 140e3
    assert float(re.search(r"\(mean ([\d.]+) kB\)", line).group(1)) == pytest.approx(mean / 1000, abs=0.06)


def spectrum_slope(plane):
    """Return the exponent a of amplitude ~ f ** a of a plane (H, W), fitted over rings of f in cycles per pixel."""
    height, width = plane.shape
    amplitude = np.abs(np.fft.fft2(plane - plane.mean()))
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    edges = np.geomspace(0.01, 0.3, 16)  # below: few coefficients; above: JPEG's quantisation
    centres = np.sqrt(edges[:-1] * edges[1:])
    # The median of a ring does not see the two peaks that are the grating.
    rings = [np.median(amplitude[(f >= low) & (f < high)]) for low, high in zip(edges[:-1], edges[1:])]
    return np.polyfit(np.log(centres), np.log(rings), 1)[0]


def test_photos_have_a_natural_spectrum(photos):
    slopes = [spectrum_slope(pixels(photos[0] / name).mean(axis=-1)) for name in names(photos[0])[::10]]
    assert np.mean(slopes) == pytest.approx(-1, abs=0.15)
    assert all(-1.3 < slope < -0.7 for slope in slopes)


def test_photos_have_correlated_colours_and_are_not_clipped_much(photos):
    for name in names(photos[0])[::10]:
        colours = pixels(photos[0] / name).reshape(-1, 3)
        assert np.corrcoef(colours.T).min() > 0.6, name
        assert ((colours == 0) | (colours == 255)).mean() < 0.15, name


def mean_colour(path):
    """Return (3,): mean red, green, blue less the mean of all, which leaves the class's cast."""
    colour = pixels(path).mean(axis=(0, 1))
    return colour - colour.mean()


def direction_and_frequency(path):
    """Return the spectrum (d,) of the image in grey, whitened: the grating without the colour."""
    # A square of the shorter side, because a class's frequency is counted along that side.
    grey = pixels(path).mean(axis=-1)
    side = min(grey.shape)
    square = Image.fromarray(grey[:side, :side].astype(np.float32)).resize((96, 96), Image.Resampling.BOX)
    amplitude = np.abs(np.fft.rfft2(np.asarray(square) - grey.mean()))
    whitened = amplitude * np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96)[None, :])
    # A peak lies between coefficients and moves with the jitter: neighbours are pooled.
    pooled = sum(np.roll(whitened ** 2, shift, axis=(0, 1)) for shift in np.ndindex(3, 3))
    return (pooled / np.linalg.norm(pooled)).ravel()


@pytest.mark.parametrize("feature", [mean_colour, direction_and_frequency])
def test_photos_can_be_learnt(photos, feature):
    assert nearest_centroid_accuracy(photos[0], feature) > 4 / CLASSES  # chance is 1 / CLASSES


def test_photos_do_not_depend_on_the_number_of_workers(tmp_path):
    options = ("imagenet-like", "--classes", 3, "--per-class", 5)
    for name, extra in (("one", ("--workers", 1)), ("three", ("--workers", 3)), ("seed", ("--seed", 1))):
        made(tmp_path / name, *options, *extra)
    one, three, seed = (digest(tmp_path / name) for name in ("one", "three", "seed"))
    assert one == three and len(one) == 3 * (5 + 1)  # val: one of ten, at least one
    assert one.keys() == seed.keys() and not set(one.values()) & set(seed.values())


# ---- OUT: all or nothing -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [DIGITS, PHOTOS])
def test_out_that_is_not_empty_is_refused_and_left_alone(tmp_path, options):
    out = tmp_path / "set"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused(make(out, *options), 1, str(out), "not empty")
    assert (out / "mine.txt").read_text() == "mine" and os.listdir(tmp_path) == ["set"] and len(os.listdir(out)) == 1


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "set").write_text("mine")
    refused(make(tmp_path / "set", *PHOTOS), 1, "is a file")
    refused(make(tmp_path / "set" / "inside", *PHOTOS), 1, "cannot be written")
    assert (tmp_path / "set").read_text() == "mine"


def test_empty_out_and_missing_parents_are_fine_and_nothing_is_left_beside(tmp_path):
    (tmp_path / "empty").mkdir()
    made(tmp_path / "empty", *PHOTOS)
    made(tmp_path / "new" / "deep", *PHOTOS)
    assert digest(tmp_path / "empty") == digest(tmp_path / "new" / "deep")
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"] and os.listdir(tmp_path / "new") == ["deep"]
    (tmp_path / "plain").mkdir()  # as readable for others as any directory of this user
    assert (tmp_path / "new" / "deep").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_more_than_the_disk_holds_is_refused_at_once(tmp_path):
    refused(make(tmp_path / "set", "imagenet-like", "--classes", 1000, "--per-class", 10 ** 9), 1, "GB are free")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def half_way(tmp_path):
    """Start an endless run and return (process, tmp_path) once images are being written."""
    kind, *rest = ENDLESS
    process = subprocess.Popen([sys.executable, SCRIPT, kind, tmp_path / "set", *rest], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.jpg")):
        assert process.poll() is None and time.monotonic() < deadline, "no image was written"
        time.sleep(0.02)
    yield process, tmp_path
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own session: workers that a failed test left end here
    process.communicate(timeout=60)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(half_way, signum):
    process, folder = half_way
    process.send_signal(signum)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert error.count("\n") == 1 and "was not created" in error, error
    assert os.listdir(folder) == []


def test_killed_run_leaves_no_out_and_no_workers(half_way):
    process, folder = half_way
    process.kill()
    process.communicate(timeout=20)  # returns when every worker has closed its copy of stdout, too: none hangs
    left = os.listdir(folder)
    assert len(left) == 1 and left[0].startswith(".set.partial-")


# ---- command line ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, words", [
    (("digits", "--size", "0"), ("--size", "'0'", "from 8")),
    (("digits", "--val-fraction", "1"), ("--val-fraction", "'1'", "between 0 and 1")),
    (("digits", "--val-fraction", "nan"), ("--val-fraction", "'nan'")),
    (("digits", "--seed", "-1"), ("--seed", "'-1'")),
    (("imagenet-like", "--per-class", "1"), ("--classes", "required")),
    ((*PHOTOS, "--workers", "0"), ("--workers", "'0'", "from 1")),
    ((*PHOTOS, "--val-per-class", "0"), ("--val-per-class", "'0'")),
    ((*PHOTOS, "--class", "3"), ("--class",)),
    (("cifar",), ("cifar", "digits")),
])
def test_wrong_option_is_one_sentence(tmp_path, options, words):
    refused(make(tmp_path / "set", *options), 2, *words)
    assert os.listdir(tmp_path) == []
