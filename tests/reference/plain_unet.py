"""ADM's and GLIDE's networks read straight off a state dict: slow, plain, written a second time.

Nothing is shared with `generators`: blocks are recognised by the names of their weights, attention
is an explicit softmax head by head, and the text is encoded anew in each call.
"""

import math

import torch
import torch.nn.functional as F


class PlainUNet:
    """Calls like the released networks; `config` holds the flat settings."""

    def __init__(self, state, config):
        self.state = state
        self.config = config

    def __call__(self, x, t, y=None, tokens=None, mask=None, low_res=None):
        if low_res is not None:
            size = x.shape[2:]
            x = torch.cat([x, F.interpolate(low_res, size, mode="bilinear")], dim=1)
        emb = self.embed(t)
        text = None
        if y is not None:
            emb = emb + self.state["label_emb.weight"][y]
        if tokens is not None:
            pooled, text = self.encode_text(tokens, mask)
            emb = emb + pooled
        skips = []
        for index in range(self.count("input_blocks")):
            x = self.stage(f"input_blocks.{index}", x, emb, text, direction="down")
            skips.append(x)
        x = self.stage("middle_block", x, emb, text, direction=None)
        for index in range(self.count("output_blocks")):
            x = torch.cat([x, skips.pop()], dim=1)
            x = self.stage(f"output_blocks.{index}", x, emb, text, direction="up")
        return self.conv("out.2", F.silu(self.group_norm("out.0", x)))

    def embed(self, t):
        width = self.config["model_channels"]
        half = width // 2
        angles = [[float(time) * 10000 ** (-i / half) for i in range(half)] for time in t]
        rows = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
        sinusoids = torch.tensor(rows, dtype=torch.float64).float()
        return self.linear("time_embed.2", F.silu(self.linear("time_embed.0", sinusoids)))

    def encode_text(self, tokens, mask):
        x = self.state["token_embedding.weight"][tokens] + self.state["positional_embedding"]
        if "padding_embedding" in self.state:
            x = torch.where(mask[:, :, None], x, self.state["padding_embedding"])
        for index in range(self.count("transformer.resblocks")):
            name = f"transformer.resblocks.{index}"
            qkv = self.linear(f"{name}.attn.c_qkv", self.layer_norm(f"{name}.ln_1", x))
            parts = attention(qkv.transpose(1, 2), None, self.config["xf_heads"], "legacy")
            x = x + self.linear(f"{name}.attn.c_proj", parts.transpose(1, 2))
            h = F.gelu(self.linear(f"{name}.mlp.c_fc", self.layer_norm(f"{name}.ln_2", x)))
            x = x + self.linear(f"{name}.mlp.c_proj", h)
        if "final_ln.weight" in self.state:
            x = self.layer_norm("final_ln", x)
        return self.linear("transformer_proj", x[:, -1]), x.transpose(1, 2)

    def stage(self, name, x, emb, text, *, direction):
        layers = sorted({key[len(name) + 1 :].split(".")[0] for key in self.keys(name + ".")})
        for position, layer in enumerate(layers):
            path = f"{name}.{layer}"
            if f"{path}.in_layers.0.weight" in self.state:
                x = self.res_block(path, x, emb, self.resampling(name, position, direction))
            elif f"{path}.qkv.weight" in self.state:
                x = self.attention_block(path, x, text, up=direction == "up")
            elif f"{path}.op.weight" in self.state:
                x = self.conv(f"{path}.op", x, stride=2)
            elif f"{path}.conv.weight" in self.state:
                x = self.conv(f"{path}.conv", F.interpolate(x, scale_factor=2.0))
            else:
                x = self.conv(path, x)
        if direction == "down" and not layers:
            x = F.avg_pool2d(x, 2)
        has_conv = any(f"{name}.{layer}.conv.weight" in self.state for layer in layers)
        pools = not self.config.get("resblock_updown") and not has_conv
        if direction == "up" and pools and self.ends_level(name):
            x = F.interpolate(x, scale_factor=2.0)
        return x

    def ends_level(self, name):
        """Whether an output block is the last of a level that is not the finest."""
        index = int(name.split(".")[1])
        per_level = self.config["num_res_blocks"] + 1
        return index % per_level == per_level - 1 and index // per_level + 1 < len(
            self.config["channel_mult"]
        )

    def resampling(self, name, position, direction):
        """Which residual blocks change resolution, by where they stand."""
        if direction is None or not self.config.get("resblock_updown"):
            return None
        if direction == "up":
            is_last = position == len({key.split(".")[2] for key in self.keys(name + ".")}) - 1
            return "up" if position and is_last and self.ends_level(name) else None
        per_level = self.config["num_res_blocks"] + 1
        index = int(name.split(".")[1])
        return "down" if index and index % per_level == 0 else None

    def res_block(self, name, x, emb, resampling):
        h = F.silu(self.group_norm(f"{name}.in_layers.0", x))
        if resampling == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if resampling == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        h = self.conv(f"{name}.in_layers.2", h)
        shift = self.linear(f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
        if self.config.get("use_scale_shift_norm"):
            scale, shift = shift[:, : h.shape[1]], shift[:, h.shape[1] :]
            h = self.group_norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self.group_norm(f"{name}.out_layers.0", h + shift)
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        if f"{name}.skip_connection.weight" in self.state:
            x = self.conv(f"{name}.skip_connection", x)
        return x + h

    def attention_block(self, name, x, text, *, up):
        heads = self.config.get("num_heads", 1)
        if up and self.config.get("num_heads_upsample", -1) != -1:
            heads = self.config["num_heads_upsample"]
        if self.config.get("num_head_channels", -1) != -1:
            heads = x.shape[1] // self.config["num_head_channels"]
        order = "new" if self.config.get("use_new_attention_order") else "legacy"
        flat = self.group_norm(f"{name}.norm", x).flatten(2)
        qkv = F.conv1d(flat, *self.weights(f"{name}.qkv"))
        kv = None if text is None else F.conv1d(text, *self.weights(f"{name}.encoder_kv"))
        h = F.conv1d(attention(qkv, kv, heads, order), *self.weights(f"{name}.proj_out"))
        return x + h.view(x.shape)

    def keys(self, prefix):
        return [key for key in self.state if key.startswith(prefix)]

    def count(self, name):
        """Number of blocks; pooling has no weights, so gaps are counted by the highest index."""
        return 1 + max(int(key[len(name) + 1 :].split(".")[0]) for key in self.keys(name + "."))

    def weights(self, name):
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def conv(self, name, x, stride=1):
        weight, bias = self.weights(name)
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def linear(self, name, x):
        return F.linear(x, *self.weights(name))

    def group_norm(self, name, x):
        return F.group_norm(x, 32, *self.weights(name), eps=1e-5)

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], *self.weights(name), eps=1e-5)


def attention(qkv, context_kv, heads, order):
    """(B, 3C, T) and (B, 2C, L) to (B, C, T), head by head."""
    width = qkv.shape[1] // (3 * heads)
    outputs = []
    for head in range(heads):
        q, k, v = (part(qkv, head, which, 3, heads, width, order) for which in range(3))
        if context_kv is not None:
            context = [part(context_kv, head, i, 2, heads, width, order) for i in range(2)]
            k, v = torch.cat([context[0], k], dim=2), torch.cat([context[1], v], dim=2)
        scores = torch.einsum("bct,bcs->bts", q, k) / math.sqrt(width)
        outputs.append(torch.einsum("bts,bcs->bct", scores.softmax(dim=-1), v))
    return torch.cat(outputs, dim=1)


def part(projected, head, which, parts, heads, width, order):
    """The channels of one head's q, k or v."""
    place = head * parts + which if order == "legacy" else which * heads + head
    return projected[:, place * width : (place + 1) * width]
