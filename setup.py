"""Packaging of vatt_tf: what is installed, what it needs, which commands it brings.

The folders ``gin_configs/``, ``export/`` and ``serving/`` stand at the top of the checkout, where
people look for them, and are installed inside the package (``vatt_tf.export`` ...), so that
site-packages gets no stray module.
Ranges here say what works; ``constraints.txt`` says what is tested.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).resolve().parent
AT_THE_TOP = find_packages(include=["export", "export.*", "serving", "serving.*"])


def read_version() -> str:
    """Returns ``__version__`` of the package without importing it."""
    text = (ROOT / "vatt_tf" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('vatt_tf/__init__.py has no line __version__ = "..."')
    return match.group(1)


setup(
    name="vatt_tf",
    version=read_version(),
    description="Video-audio-text Transformers (VATT) for TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The vatt_tf Authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=[
        *find_packages(include=["vatt_tf", "vatt_tf.*"]),
        "vatt_tf.gin_configs",
        *(f"vatt_tf.{name}" for name in AT_THE_TOP),
    ],
    package_dir={
        "vatt_tf.gin_configs": "gin_configs",
        **{f"vatt_tf.{name}": name.replace(".", "/") for name in AT_THE_TOP},
    },
    package_data={"vatt_tf.gin_configs": ["*.gin", "*/*.gin"]},
    zip_safe=False,
    # tensorflow-io has no wheel for Python 3.13.
    python_requires=">=3.11,<3.13",
    install_requires=[
        # One minor version for everything that links TensorFlow.
        "tensorflow~=2.20.0",
        "tensorflow-text==2.20.*",
        "tf-models-official==2.20.0",
        "tensorflow-serving-api==2.20.*",
        "tensorflow-io==0.37.1",
        "keras>=3.15",
        "absl-py>=1.4",
        "aiohttp>=3.10",
        "av>=14",
        "faiss-cpu>=1.9",
        "gin-config>=0.5",
        "grpcio>=1.66",
        # Newer ones want another protobuf than TensorFlow 2.20.
        "grpcio-health-checking>=1.66,<1.80",
        "h5py>=3.11",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10",
        "protobuf>=5.28",
        "scikit-learn>=1.4",
        "sentencepiece>=0.2",
        "tensorboard~=2.20.0",
        "threadpoolctl>=3",
        "tqdm>=4.66",
    ],
    extras_require={
        "beam": ["apache-beam>=2.70"],
        "transcribe": ["faster-whisper>=1.1"],
        "test": [
            "docstring-parser>=0.16",
            "hypothesis>=6.100",
            "kubernetes-validate>=1.31",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "trustme>=1.2",
        ],
        "lint": ["mypy>=1.15", "ruff>=0.9"],
        # Keras's other backends, on which the towers run too.
        "backends": ["jax>=0.5", "torch>=2.6"],
        # Playwright opens the pages in the tests.
        "site": ["mkdocs-material>=9.7", "mkdocstrings[python]>=1", "playwright>=1.50"],
    },
    entry_points={
        "console_scripts": [
            "vatt-prepare = vatt_tf.prepare:main",
            "vatt-train = vatt_tf.train:main",
            "vatt-convert = vatt_tf.convert:main",
            "vatt-evaluate = vatt_tf.evaluate:main",
            "vatt-export = vatt_tf.export.__main__:main",
            "vatt-serve = vatt_tf.serving.__main__:main",
            "vatt-embed = vatt_tf.embed:main",
            "vatt-search = vatt_tf.search:main",
        ],
    },
)
