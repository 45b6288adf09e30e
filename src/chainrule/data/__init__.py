"""Datasets, samplers, the loader, file readers, and the data sets that come by name."""

from chainrule.data.collate import default_collate, default_convert
from chainrule.data.csv import NA_VALUES, read_csv
from chainrule.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Samples,
    Subset,
    TensorDataset,
    random_split,
)
from chainrule.data.digits import Digits
from chainrule.data.files import DataFileError, DownloadError
from chainrule.data.idx import read_idx, write_idx
from chainrule.data.images import ImageDataset
from chainrule.data.loader import DataLoader
from chainrule.data.mnist import MNIST, FashionMNIST
from chainrule.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from chainrule.data.scaling import OneHot, Scaling, one_hot, rescale, standardize
from chainrule.data.table import Table
from chainrule.data.workers import WorkerInfo, get_worker_info

__all__ = [
    "MNIST",
    "NA_VALUES",
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataFileError",
    "DataLoader",
    "Dataset",
    "Digits",
    "DownloadError",
    "FashionMNIST",
    "ImageDataset",
    "IterableDataset",
    "OneHot",
    "RandomSampler",
    "Sampler",
    "Samples",
    "Scaling",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "Table",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "one_hot",
    "random_split",
    "read_csv",
    "read_idx",
    "rescale",
    "standardize",
    "write_idx",
]
