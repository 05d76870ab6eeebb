"""The honest neighbour of graph generators: a language model of SMILES, trained and judged on the same split.

An LSTM over the tokens of canonical SMILES, trained for --minutes on one core. JSON line: parameters, CPU seconds of
training and of sampling, rates and (under --protocol) distances, and an estimate of energy: CPU seconds times --watt.

  wh_10000  watt hours for 10,000 valid, new molecules: [training left out, training included]

Examples:
  graphinv data build zinc250k -o zinc250k.graphs
  python -m examples.benchmarks.smiles_lstm --data zinc250k.graphs --minutes 42 --samples 10000 --protocol gdss-2022
  python -m examples.benchmarks.smiles_lstm --data zinc250k.graphs --minutes 1 --samples 200
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import graphinv

from .lines import add_output, emit, setting, watt_hours

TOKEN = re.compile(r"Cl|Br|\[[^\]]+\]|%\d\d|.")
END = 0  # begins and ends a molecule, and fills the rest of a batch


class Model(nn.Module):
    """Next tokens of SMILES."""

    def __init__(self, tokens: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(tokens, 128), nn.Linear(width, tokens)
        self.lstm = nn.LSTM(128, width, layers, batch_first=True)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        hidden, state = self.lstm(self.embed(x), state)
        return self.out(hidden), state


def train(model: Model, rows: list[Tensor], seconds: float, batch_size: int, rate: float) -> int:
    """Train for so many CPU seconds on rows of like length; return how many molecules were seen."""
    optimizer, seen, start = torch.optim.AdamW(model.parameters(), lr=rate), 0, time.process_time()
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    with tqdm(total=round(seconds), desc="training", unit=" CPU s") as bar:
        while (elapsed := time.process_time() - start) < seconds:
            batch = batches[int(torch.randint(len(batches), ()))]
            x = nn.utils.rnn.pad_sequence([rows[k] for k in batch], batch_first=True, padding_value=END)
            x = F.pad(x, (1, 1), value=END)
            ends = torch.tensor([len(rows[k]) for k in batch]).unsqueeze(1)
            weight = torch.arange(x.size(1) - 1) <= ends
            logits, _ = model(x[:, :-1])
            loss = F.cross_entropy(logits[weight], x[:, 1:][weight])
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seen += len(batch)
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
            bar.update(round(elapsed) - bar.n)
    return seen


@torch.no_grad()
def sample(model: Model, names: list[str], n: int, longest: int) -> list[str]:
    """Draw n SMILES."""
    x, state, drawn = torch.full((n, 1), END), None, []
    for _ in range(longest):
        logits, state = model(x, state)
        x = torch.multinomial(logits[:, -1].softmax(-1), 1)
        drawn.append(x)
    rows = torch.cat(drawn, 1).tolist()
    return ["".join(names[t] for t in row[: row.index(END) if END in row else None]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a store of molecules, with their SMILES")
    parser.add_argument("--minutes", type=float, default=10, help="CPU minutes of training (default 10)")
    parser.add_argument("--samples", type=int, default=1000, help="molecules to draw (default 1000)")
    parser.add_argument("--protocol", help="distances by this protocol, such as gdss-2022")
    parser.add_argument("--width", type=int, default=384, help="of the LSTM (default 384)")
    parser.add_argument("--layers", type=int, default=2, help="of the LSTM (default 2)")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate (default 0.002)")
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    parser.add_argument("--watt", type=float, default=15.0, help="of one busy core (default 15, an assumption)")
    parser.add_argument("--seed", type=int, default=0)
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    store = graphinv.GraphStore.open(args.data)
    known = store.batch(store.indices("train")).graph_columns.get("smiles")
    if known is None:
        parser.error(f"{args.data} holds no SMILES: build it with graphinv data build")
    cut = [TOKEN.findall(text) for text in known]
    names = ["", *sorted({token for row in cut for token in row})]
    number = {name: k for k, name in enumerate(names)}
    rows = [torch.tensor([number[token] for token in row]) for row in cut]
    model = Model(len(names), args.width, args.layers)
    seen = train(model, rows, 60 * args.minutes, args.batch_size, args.rate)
    start = time.process_time()
    smiles = sample(model, names, args.samples, max(map(len, rows)) + 1)
    seconds = time.process_time() - start
    report = graphinv.evaluate(smiles, reference=store, protocol=args.protocol)
    rates = {k: round(report[k]["rate"], 5) for k in ("valid_strict", "valid_relaxed", "connected", "unique", "novel")}
    new = report["valid_strict"]["count"] * rates["unique"] * rates["novel"]
    line = {
        "name": "smiles_lstm",
        "data": Path(args.data).stem,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    line |= {"train_cpu_s": round(60 * args.minutes), "train_molecules": seen, "samples": args.samples, **rates}
    line |= {"sample_cpu_s": round(seconds, 2), "watt": args.watt}
    line["wh_10000"] = watt_hours(args.watt, seconds, 60 * args.minutes, new)
    line["distances"] = report.get("distances")
    emit({**line, **setting("smiles_lstm", args.threads)}, args.out)


if __name__ == "__main__":
    main()
