"""A chart of bars as SVG, one group for each case, readable on light and dark pages."""
import math

WIDTH, LEFT, RIGHT, BAR, GAP = 720, 130, 70, 16, 22
STYLE = """\
text { font: 12px sans-serif; fill: #24292f }
.title { font-weight: bold }
.grid { stroke: #d0d7de }
.baker { fill: #1a7f37 } .mkosi { fill: #bf8700 } .mmdebstrap { fill: #8250df } .floor { fill: #818b98 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid { stroke: #3d444d } }
"""


def bars(groups):
    """`groups`: seconds by maker, by case. Seconds are on a logarithmic scale."""
    values = [value for makers in groups.values() for value in makers.values()]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values)))
    room = WIDTH - LEFT - RIGHT
    place = lambda value: LEFT + room * math.log(value / low) / math.log(high / low)
    parts, y = [], 8
    for case, makers in groups.items():
        y += GAP
        parts.append(f'<text class="title" x="0" y="{y - 6}">{case}</text>')
        for by, value in makers.items():
            maker = by.partition(",")[0]
            parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{by}</text>'
                         f'<rect class="{maker}" x="{LEFT}" y="{y}" width="{place(value) - LEFT:.1f}" '
                         f'height="{BAR - 3}"/>'
                         f'<text x="{place(value) + 6:.1f}" y="{y + 12}">{value:.2f} s</text>')
            y += BAR
        y += 4
    grid, value = [], low
    while value <= high * 1.001:
        x = place(value)
        grid.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{y}"/>'
                    f'<text x="{x:.1f}" y="{y + 16}" text-anchor="middle">{value:g} s</text>')
        value *= 10
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" role="img">\n'
            f"<title>Seconds by case and maker, logarithmic</title>\n<style>{STYLE}</style>\n"
            + "\n".join(grid + parts) + "\n</svg>\n")
