"""A plot of the results as SVG: for each scenario with a floor, every server's figure as a multiple of it."""
from xml.sax.saxutils import escape

COLOURS = {"floor": "#9aa5b1", "rooms": "#2563eb", "nchan": "#d97706", "node": "#16a34a"}
LEFT, BAR, GAP, WIDTH = 210, 14, 16, 760


def bars(results, scenarios):
    """Only what has a floor, and is the better the smaller it is."""
    shown = [(scenario, [(label, results.middle(scenario.name, label, scenario.value)
                          / results.middle(scenario.name, "floor", scenario.value))
                         for label in scenario.servers if results.middle(scenario.name, label, scenario.value) is not None])
             for scenario in scenarios
             if results.middle(scenario.name, "floor", scenario.value) and not scenario.value.endswith(("_per_s", "_socket"))]
    most = max((ratio for _, all_ in shown for _, ratio in all_), default=1)
    most = min(most, 5)
    scale = (WIDTH - LEFT - 60) / most
    lines, y = [], 40
    for scenario, all_ in shown:
        lines.append(f'<text x="{LEFT - 10}" y="{y + BAR}" text-anchor="end">{escape(scenario.name)}</text>')
        for label, ratio in all_:
            width = min(ratio, most) * scale
            lines.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS.get(label.split(",")[0], "#64748b")}"/>'
                         f'<text x="{LEFT + width + 5:.1f}" y="{y + BAR - 3}" class="n">{escape(label)} {ratio:.2f}</text>')
            y += BAR + 2
        y += GAP
    line = f'<line x1="{LEFT + scale:.1f}" y1="30" x2="{LEFT + scale:.1f}" y2="{y - GAP}" stroke="#334155" stroke-dasharray="4 3"/>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="13">'
            f'<style>.n{{font-size:11px}}</style><rect width="100%" height="100%" fill="white"/>'
            f'<text x="10" y="20" font-weight="bold">CPU of the server, × that of a bare epoll loop (less is better)</text>'
            + "".join(lines) + line + "</svg>\n")
