"""What was made: how near it is to the real images, its labels of views, and its bytes."""

from __future__ import annotations

from wdistill.artifact.records.model import Count, Number, Record


class BarycenterRecord(Record):
    """Squared Wasserstein distances to the real images in the teacher's features, one per class.

    w2: of the barycenter; w2_random: of as many random real images.
    """

    w2: tuple[Number, ...]
    w2_random: tuple[Number, ...]


class Distances(Record):
    """How far the images are from real ones.

    nearest_real_rmse: for each class and image, to the nearest training image of the class, pixels
    being from 0 to 1.
    """

    nearest_real_rmse: tuple[tuple[Number, ...], ...]


class StoredViews(Record):
    """The labels of single views, stored beside the images.

    views: number for each image; topk: logits that are kept of each view; levels: values that a
    stored logit can have; temperature: at which the classes that are not kept have their share.
    """

    views: Count
    topk: Count
    levels: Count
    temperature: Number


class Sizes(Record):
    """Bytes. images: of their files; parquet: of the files with images and soft labels;
    label_views: of the files with the labels of views.
    """

    images: Count
    soft_labels: Count
    parquet: Count
    label_views: Count
