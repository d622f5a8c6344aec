"""torchvision's ResNets in any width, with either stem and any number of channels, without a classifier; and what
SimCLR v2 has beside them: ResNet-D (variant "d") and selective kernels.

    network = ResNet("resnet50", variant="d", selective_kernels=0.0625)
    network.load_state_dict(safetensors.torch.load_file("encoder.safetensors"))
"""
import functools
import warnings
from collections import OrderedDict

import torch
from torch import nn


def _torchvision():
    """Imports torchvision beside a PyTorch that it was not compiled for. Its own operators are then missing; the
    networks use none of them."""
    global _operators
    _operators = torch.library.Library("torchvision", "FRAGMENT")
    for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                      "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
        try:
            _operators.define(signature)
        except RuntimeError:
            pass  # the compiled library has it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision
    return torchvision


torchvision = _torchvision()
resnet = torchvision.models.resnet
LAYERS = {"resnet18": (resnet.BasicBlock, [2, 2, 2, 2]), "resnet34": (resnet.BasicBlock, [3, 4, 6, 3]),
          "resnet50": (resnet.Bottleneck, [3, 4, 6, 3]), "resnet101": (resnet.Bottleneck, [3, 4, 23, 3]),
          "resnet152": (resnet.Bottleneck, [3, 8, 36, 3])}


def convolution(inputs, filters, kernel=1, stride=1):
    return nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=False)


class SelectiveKernel(nn.Module):
    """Weighs two streams, channel by channel, by what the mean over the image says. Parameters: conv1, bn1, conv2."""

    def __init__(self, filters, ratio):
        super().__init__()
        squeezed = max(int(filters * ratio), 32)
        self.conv1, self.bn1 = convolution(filters, squeezed), nn.BatchNorm2d(squeezed)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = convolution(squeezed, 2 * filters)

    def forward(self, x):
        streams = torch.stack(x.chunk(2, dim=1))
        pooled = streams.sum(0).mean((2, 3), keepdim=True)
        weights = self.conv2(self.relu(self.bn1(self.conv1(pooled))))
        return (streams * torch.stack(weights.chunk(2, dim=1)).softmax(0)).sum(0)


class SelectiveBottleneck(resnet.Bottleneck):
    """A bottleneck whose 3x3 gives two streams, of which `sk` makes one."""

    def __init__(self, *arguments, ratio, **options):
        super().__init__(*arguments, **options)
        planes, stride = self.conv2.out_channels, self.conv2.stride[0]
        self.conv2, self.bn2 = convolution(planes, 2 * planes, 3, stride), nn.BatchNorm2d(2 * planes)
        self.sk = SelectiveKernel(planes, ratio)

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.sk(self.relu(self.bn2(self.conv2(y))))
        return self.relu(self.bn3(self.conv3(y)) + residual)


class ResNet(resnet.ResNet):
    """torchvision's network with 64 * width channels in its first stage; features in, features out."""

    def __init__(self, name, width=1.0, stem="imagenet", channels=3, variant="b", selective_kernels=0.0):
        nn.Module.__init__(self)
        block, layers = LAYERS[name]
        if selective_kernels:
            block = functools.partial(SelectiveBottleneck, ratio=selective_kernels)
            block.expansion = SelectiveBottleneck.expansion
        planes = int(64 * width)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, planes, 1, 1, 64
        small, is_d = stem == "small", variant == "d"
        self.conv1 = nn.Conv2d(channels, planes, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
        self.stem = nn.Identity()
        if is_d and not small:
            # The ReLU after the third normalisation is in torchvision's forward.
            self.stem, self.conv1, self.bn1 = self.deep_stem(channels, planes), nn.Identity(), nn.Identity()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate(layers):
            stride = 1 if stage == 0 else 2
            setattr(self, f"layer{stage + 1}", self._make_layer(block, planes << stage, count, stride))
            first = getattr(self, f"layer{stage + 1}")[0]
            if is_d and first.downsample is not None:
                first.downsample = self.pooled_shortcut(first.downsample)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Identity()
        self.features = (planes << 3) * block.expansion

    @staticmethod
    def deep_stem(channels, planes):
        half = max(1, planes // 2)
        return nn.Sequential(OrderedDict(
            conv1=convolution(channels, half, 3, 2), bn1=nn.BatchNorm2d(half), relu1=nn.ReLU(inplace=True),
            conv2=convolution(half, half, 3), bn2=nn.BatchNorm2d(half), relu2=nn.ReLU(inplace=True),
            conv3=convolution(half, planes, 3), bn3=nn.BatchNorm2d(planes)))

    @staticmethod
    def pooled_shortcut(projection):
        """A mean over 2x2, then 1x1. The mean counts the padding as zeros with stride 2, and leaves it out with stride
        1."""
        conv, bn = projection
        stride = conv.stride[0]
        pad = nn.ZeroPad2d((0, 1, 0, 1)) if stride == 2 else nn.ReplicationPad2d((0, 1, 0, 1))
        return nn.Sequential(OrderedDict(
            pad=pad, pool=nn.AvgPool2d(2, stride), conv=convolution(conv.in_channels, conv.out_channels), bn=bn))

    def forward(self, x):
        return super().forward(self.stem(x))
