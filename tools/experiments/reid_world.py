"""Synthetic tri-modal re-identification data: who is seen, by which camera, in which band.

Strength, noise and failures of each modality are set, so it is known which one should dominate and
what the others could add.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from cmiei_hooks.errors import ConfigError

__all__ = ["MODALITIES", "Images", "Sensor", "World", "identity_batches", "make_images"]

MODALITIES = ("r", "n", "t")
"""RGB, near infrared, thermal infrared."""

PERSON, SHOWN, POSE, WIDTH = 32, 16, 10, 64
"""Dimensions of an identity, of the part of it that one modality shows, of a pose, of an image."""


@dataclass(frozen=True)
class Sensor:
    """How one modality sees.

    Raises:
        ConfigError: a share is not from 0 to 1, or the noise is negative or not finite.
    """

    strength: float = 0.5
    """The share of identity in the variance of what is shown; the rest is the pose."""
    noise: float = 0.3
    """The standard deviation of a pixel's noise; that of its signal is about 0.7."""
    failure: float = 0.0
    """The probability that an image of this modality is nothing but noise."""

    def __post_init__(self) -> None:
        shares = 0 <= self.strength <= 1 and 0 <= self.failure <= 1
        if not (shares and 0 <= self.noise < math.inf):
            raise ConfigError(
                "a sensor cannot have these values",
                got=str(self),
                expected="strength and failure from 0 to 1, and a finite noise >= 0",
                remedy="for a modality without information set strength 0 or failure 1",
            )


@dataclass(frozen=True)
class World:
    """The people and the sensors. By default RGB is the strongest of three useful bands."""

    sensors: tuple[Sensor, Sensor, Sensor] = (
        Sensor(strength=0.75, noise=0.3, failure=0.05),
        Sensor(strength=0.4, noise=0.4),
        Sensor(strength=0.35, noise=0.4),
    )
    """The sensors of r, n and t."""
    camera: float = 0.4
    """How strongly a camera changes its images, in units of the image: it mixes the pixels and
    shifts them, in its own way for each modality."""
    cameras: int = 4
    shots: int = 4
    """The number of images of each identity by each camera."""
    train_identities: int = 96
    test_identities: int = 96

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> World:
        """The defaults with some values replaced, as written in YAML.

        Args:
            given: fields by name; ``sensors`` maps modalities to some of their fields, as in
                ``{sensors: {r: {strength: 0.9}}, camera: 0.2}``.

        Raises:
            ConfigError: there is no such field or modality, or a value is out of range.
        """
        fields = dict(given)
        changed = dict(fields.pop("sensors", {}))
        try:
            r, n, t = (
                replace(sensor, **changed.pop(name, {}))
                for name, sensor in zip(MODALITIES, cls().sensors, strict=True)
            )
            if changed:
                raise TypeError(f"no sensor {', '.join(map(repr, changed))}")
            return replace(cls(), sensors=(r, n, t), **fields)
        except TypeError as error:
            raise ConfigError(
                "no world has these values",
                got=f"{dict(given)}: {error}",
                expected=f"some of {', '.join(f.name for f in dataclasses.fields(cls))}, and in "
                f"sensors for {', '.join(MODALITIES)} some of "
                f"{', '.join(f.name for f in dataclasses.fields(Sensor))}",
                remedy="write for example {sensors: {r: {strength: 0.9}}, camera: 0.2}",
            ) from error


@dataclass(frozen=True)
class Images:
    """``N`` images: views of r, n and t, each ``[N, 64]``; identities and cameras, int64 ``[N]``.

    The images of an identity stand next to each other, and among them those by one camera.
    """

    views: tuple[Tensor, ...]
    ids: Tensor
    cameras: Tensor


def make_images(world: World, generator: Generator) -> tuple[Images, Images]:
    """The images to train on, and images of other identities to test on.

    Everything is drawn from the generator: the identities, the sensors, the cameras, and the pose
    and noise of each image. An identity is a normal vector, of which each modality shows a
    different random part; all of them show the same pose. A random nonlinear map makes an image of
    both.
    """
    people = world.train_identities + world.test_identities
    ids = torch.arange(people).repeat_interleave(world.cameras * world.shots)
    cameras = torch.arange(world.cameras).repeat_interleave(world.shots).repeat(people)
    person = _normal(generator, people, PERSON)[ids]
    pose = _normal(generator, len(ids), POSE)
    views = [_see(person, pose, cameras, sensor, world, generator) for sensor in world.sensors]
    cut = world.train_identities * world.cameras * world.shots
    sides = [slice(None, cut), slice(cut, None)]
    train, test = (
        Images(tuple(view[side] for view in views), ids[side], cameras[side]) for side in sides
    )
    return train, test


def _see(
    person: Tensor,
    pose: Tensor,
    cameras: Tensor,
    sensor: Sensor,
    world: World,
    generator: Generator,
) -> Tensor:
    """``[N, 64]`` of one modality, from ``[N, 32]``, ``[N, 10]`` and ``[N]``."""
    identity = person @ _map(generator, PERSON, SHOWN)
    distraction = pose @ _map(generator, POSE, SHOWN)
    shown = math.sqrt(sensor.strength) * identity + math.sqrt(1 - sensor.strength) * distraction
    image = torch.tanh(1.5 * shown @ _map(generator, SHOWN, WIDTH))
    mixing = torch.stack([_map(generator, WIDTH, WIDTH) for _ in range(world.cameras)])
    shift = _normal(generator, world.cameras, WIDTH)
    for camera in range(world.cameras):
        by_it = cameras == camera
        seen = image[by_it]
        image[by_it] = seen + world.camera * (seen @ mixing[camera] + shift[camera])
    failed = torch.rand(len(image), 1, generator=generator) < sensor.failure
    image = torch.where(failed, _normal(generator, *image.shape) * image.std(), image)
    return image + sensor.noise * _normal(generator, *image.shape)


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _map(generator: Generator, ins: int, outs: int) -> Tensor:
    """A random linear map that keeps unit variance."""
    return _normal(generator, ins, outs) / math.sqrt(ins)


def identity_batches(
    ids: Tensor, people: int, images: int, generator: Generator
) -> Iterator[Tensor]:
    """One epoch of batches of ``people`` identities with ``images`` images each.

    Each image is used at most once. Identities that have fewer than ``images`` left, and those that
    do not fill a batch, are left out.

    Args:
        ids: ``[N]``, the identity of each image.
        people: the identities in a batch (P).
        images: the images of each (K).
        generator: decides the order.

    Yields:
        int64 ``[people * images]``: indices into ``ids``, those of an identity next to each other.
    """
    groups = [torch.nonzero(ids == person)[:, 0] for person in dict.fromkeys(ids.tolist())]
    shuffled = [group[torch.randperm(len(group), generator=generator)] for group in groups]
    for start in range(0, max(map(len, groups)), images):
        left = [group[start : start + images] for group in shuffled]
        chunks = [chunk for chunk in left if len(chunk) == images]
        order = torch.randperm(len(chunks), generator=generator).tolist()
        for first in range(0, len(chunks) - people + 1, people):
            yield torch.cat([chunks[i] for i in order[first : first + people]])
