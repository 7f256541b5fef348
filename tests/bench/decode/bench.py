"""The way from shards to batches, Weft's and the peers', on the same pictures, in turn; see run.sh.

  bench.py BIN_FOLDER IMAGES REPORT PYTHON [SIMD_PYTHON]

Repeats alternate over all contenders, each on one core; images a second are of CPU time, so that others on the machine
disturb less, and the table gives medians; what depends on the clock says so. Each line has its target beside it, met or
missed. The exit code does not depend on the ratios: 0 says that all was measured.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys

SIZES = ("256", "512", "768")
REPEATS = int(os.environ.get("REPEATS", "5"))
TARGETS = {"FAST": {"256": 4, "512": 2.5, "768": 2.5}, "EXACT": {"256": 1.5, "512": 1.5, "768": 1.5}}
COEFFICIENT_TARGETS = {"whole": {"256": 0.60, "512": 0.68, "768": 0.68}, "RRC(0.9-1)": {}, "RRC(0.2-1)": {"256": 0.75, "512": 0.75, "768": 0.75}}
PEERS = ("webdataset_pillow", "webdataset_pillow_simd", "webdataset_torchvision", "mosaicml_streaming", "litdata", "energon")


def pinned(command, core):
    return ["taskset", "-c", str(core), *command]


class Peer:
    """A process that answers one line with one line."""

    def __init__(self, name, python, images, core):
        self.failed = None
        script = pathlib.Path(__file__).with_name("peers.py")
        self.process = subprocess.Popen(pinned([python, str(script), name, images], core), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        first = self.process.stdout.readline()
        if not first:
            self.failed = "it does not start"
        self.versions = json.loads(first) if first else {}

    def measure(self, size):
        if self.failed:
            return None
        self.process.stdin.write(f"{size} 0.9\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"failed": "it died"}')
        self.failed = answer.get("failed")
        return None if self.failed else answer["images"] / answer["cpu_s"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def weft(folder, images, vocabulary, size, mode, cores, threads=1):
    command = [str(folder / "weft_decode_path_bench"), f"{images}/{size}/wds/0.tar", "--vocabulary", vocabulary, "--mode", mode,
               "--threads", str(threads), "--batches", "14"]
    line = subprocess.run(pinned(command, cores), check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return json.loads(line)


def cpu_rate(answer):
    return answer["images"] / answer["cpu_s"]


def wall_rate(answer):
    return answer["images"] / answer["wall_s"]


def stages(folder, images, size, core):
    out = pathlib.Path(images) / f"stages-{size}.json"
    files = sorted(str(p) for p in (pathlib.Path(images) / size / "jpg").iterdir())
    subprocess.run(pinned([str(folder / "weft_decode_bench"), "--repeats", str(REPEATS), "--json", str(out), *files], core),
                   check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def middle(values):
    return statistics.median(values) if values else None


def whole_path(folder, images, vocabulary, pythons, core):
    peers = {n: Peer(n, pythons["simd" if "simd" in n else "pip"], images, core)
             for n in PEERS if pythons["simd" if "simd" in n else "pip"]}
    rates = {(n, s): [] for n in (*peers, "FAST", "EXACT") for s in SIZES}
    for _ in range(REPEATS):
        for size in SIZES:
            for mode in ("FAST", "EXACT"):
                rates[mode, size].append(cpu_rate(weft(folder, images, vocabulary, size, mode, core)))
            for name, peer in peers.items():
                rate = peer.measure(size)
                if rate:
                    rates[name, size].append(rate)
    failed = {n: p.failed for n, p in peers.items() if p.failed}
    versions = {n: p.versions for n, p in peers.items()}
    for peer in peers.values():
        peer.close()
    failed.update({n: "not installed here" for n in PEERS if n not in peers})
    return {n: {s: middle(rates[n, s]) for s in SIZES} for n in (*peers, "FAST", "EXACT")}, failed, versions


def verdict(value, target):
    """ 4.52 (target 4: met), or by how much it is missed."""
    if not target:
        return f"{value:5.2f} (no target)"
    return f"{value:5.2f} (target {target}: {'met' if value >= target else f'missed by {1 - value / target:.0%}'})"


def print_row(title, values):
    print(f"{title:40}" + "".join(f"{values[s]:>34}" for s in SIZES if s in values), flush=True)


def compare_with_peers(rates):
    ratios = {}
    print_row("images a CPU second, RRC(0.9-1)", dict(zip(SIZES, SIZES)))
    for name, row in rates.items():
        print_row("  " + name, {s: f"{row[s]:.0f}" if row[s] else "-" for s in SIZES})
    for mode, targets in TARGETS.items():
        best = {s: max((rates[n][s] or 0) for n in rates if n not in TARGETS) for s in SIZES}
        ratios[mode] = {s: rates[mode][s] / best[s] for s in SIZES if best[s]}
        print_row(f"{mode} / fastest peer", {s: verdict(r, targets[s]) for s, r in ratios[mode].items()})
    return ratios


def compare_with_coefficients(stages_of):
    print_row("of jpeg_read_coefficients' speed, FAST", dict(zip(SIZES, SIZES)))
    for crop, targets in COEFFICIENT_TARGETS.items():
        print_row("  " + crop, {s: verdict(stages_of[s][f"FAST, {crop}"]["of_jpeg_read_coefficients"], targets.get(s)) for s in SIZES})
    for mode in TARGETS:
        print_row(f"{mode}: allocations, locks / images decoded", {
            s: "{allocations}, {locks} / {images}".format(**stages_of[s]["steady_state"][mode]) for s in SIZES})


def scale(folder, images, vocabulary):
    """One thread and two, in turn; both times, since cores may be busy with others."""
    cores = sorted(os.sched_getaffinity(0))
    runs = {1: [], 2: []}
    for _ in range(REPEATS):
        for threads, answers in runs.items():
            use = ",".join(str(c) for c in cores[:threads])
            answers.append(weft(folder, images, vocabulary, "512", "FAST", use, threads))
    result = {}
    for threads, answers in runs.items():
        counted = sum(a["counted_images"] for a in answers)
        result[threads] = {"images_per_second": middle([wall_rate(a) for a in answers]),
                           "images_per_cpu_second": middle([cpu_rate(a) for a in answers]),
                           "allocations_per_image": sum(a["allocations"] for a in answers) / counted,
                           "locks_per_image": sum(a["locks"] for a in answers) / counted}
        print("FAST at 512, {} thread(s): {images_per_second:.0f} images a second of the clock, {images_per_cpu_second:.0f} a CPU second; "
              "whole loader: {allocations_per_image:.2f} allocations, {locks_per_image:.2f} locks an image".format(threads, **result[threads]))
    result["two_threads_over_one"] = result[2]["images_per_second"] / result[1]["images_per_second"]
    print(f"two threads / one: {result['two_threads_over_one']:.2f} by the clock on {len(cores)} core(s)", flush=True)
    return result


def main():
    folder, images, report, python = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4]
    pythons = {"pip": python, "simd": sys.argv[5] if len(sys.argv) > 5 else None}
    core = max(os.sched_getaffinity(0))
    vocabulary = subprocess.run([python, "-c", "import open_clip, pathlib; print(next(pathlib.Path(open_clip.__file__).parent.glob('bpe*')))"],
                                check=True, capture_output=True, text=True).stdout.strip()
    rates, failed, versions = whole_path(folder, images, vocabulary, pythons, core)
    result = {"images_per_cpu_second": rates, "without": failed, "versions": versions, "repeats": REPEATS,
              "targets": {**TARGETS, "of_jpeg_read_coefficients": COEFFICIENT_TARGETS}}
    result["ratios"] = compare_with_peers(rates)
    result["of_jpeg_read_coefficients"] = {s: stages(folder, images, s, core) for s in SIZES}
    compare_with_coefficients(result["of_jpeg_read_coefficients"])
    for s in SIZES:
        print("FAST from EXACT at {}: mean {mean:.2f}, max {max} levels, PSNR {psnr:.1f} dB".format(
            s, **result["of_jpeg_read_coefficients"][s]["fast_from_exact"]))
    result["threads"] = scale(folder, images, vocabulary)
    for name, reason in failed.items():
        print(f"without {name}: {reason}")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {report}")


if __name__ == "__main__":
    main()
