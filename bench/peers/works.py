"""What is compared: attention of real models, as heed_bench names and measures it."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Work:
    """Attention of the last `queries` of `keys` tokens, causal, rows in bf16."""
    title: str
    row: str  # heed_bench's row, with {loops} for the backend and {threads}
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    keys: int
    queries: int = 1
    scale_width: int = 0  # the scale is its -0.5th power; 0: key_width
    value_in_key: bool = False  # the value is the first numbers of the key's row
    layers: int = 0  # that are read in turn; 0: as many as the processor's caches cannot hold

    @property
    def scale(self):
        return (self.scale_width or self.key_width) ** -0.5

    @property
    def layer_numbers(self):
        """Numbers in the rows of a layer."""
        return self.kv_heads * self.keys * (self.key_width + (0 if self.value_in_key else self.value_width))


shapes = {
    "mha": ("MHA 32/32 d128", dict(heads=32, kv_heads=32, key_width=128, value_width=128)),
    "gqa": ("GQA 32/8 d128", dict(heads=32, kv_heads=8, key_width=128, value_width=128)),
    "mqa": ("MQA 32/1 d128", dict(heads=32, kv_heads=1, key_width=128, value_width=128)),
    "mla": ("MLA absorbed, 128 heads",
            dict(heads=128, kv_heads=1, key_width=576, value_width=512, scale_width=192, value_in_key=True)),
    "mfa": ("MFA 64/1 d256", dict(heads=64, kv_heads=1, key_width=256, value_width=256)),
}
models = {
    "smollm2_135m": ("SmolLM2 135M, GQA 9/3 d64", dict(heads=9, kv_heads=3, key_width=64, value_width=64, layers=30)),
    "llama3_8b": ("Llama-3 8B, GQA 32/8 d128", dict(heads=32, kv_heads=8, key_width=128, value_width=128, layers=32)),
}


def all_works():
    works = []
    for name, (title, shape) in shapes.items():
        works += [Work(f"decode {title}, {keys} keys",
                       f"decode/{name}/bf16/{{loops}}/keys:{keys}/threads:{{threads}}", keys=keys, **shape)
                  for keys in (4096, 32768)]
    title, shape = shapes["gqa"]
    for group, queries, keys in [("verify", 2, 32768), ("verify", 4, 32768), ("verify", 8, 32768),
                                 ("prefill", 512, 512), ("prefill", 512, 4096)]:
        works.append(Work(f"{group} {title}, {queries} queries, {keys} keys",
                          f"{group}/gqa/bf16/{{loops}}/q:{queries}/keys:{keys}/threads:{{threads}}",
                          keys=keys, queries=queries, **shape))
    for name, (title, shape) in models.items():
        works += [Work(f"step {title}, {keys} keys, a layer",
                       f"step/{name}/bf16/{{loops}}/plan/keys:{keys}/threads:{{threads}}", keys=keys, **shape)
                  for keys in (16, 128, 512, 2048)]
    return works
