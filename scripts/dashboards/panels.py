"""The parts of a dashboard, and their translation into Grafana's own types (grafana-foundation-sdk)."""

from dataclasses import dataclass, field
from typing import Literal

from grafana_foundation_sdk.builders import common, logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, StackingMode, TooltipDisplayMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType, DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
Kind = Literal["lines", "stacked", "number", "table", "logs"]
Builder = timeseries.Panel | stat.Panel | table.Panel | logs.Panel


@dataclass
class Panel:
    """One question, and the queries that answer it by what the legend calls them; 24 units are a row."""

    question: str
    explanation: str
    unit: str
    queries: dict[str, str]
    kind: Kind = "lines"
    width: int = 12
    source: DataSourceRef = field(default_factory=lambda: PROMETHEUS)


@dataclass
class Dashboard:
    """Panels from left to right and top to bottom."""

    uid: str
    title: str
    explanation: str
    panels: list[Panel]
    #: Text fields above the panels, and what stands in them at first.
    fields: dict[str, str] = field(default_factory=dict)
    span: str = "now-6h"


def to_json(board: Dashboard) -> str:
    """Return the text of the file: the same questions always give the same text."""
    builder = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.explanation)
        .tags(["wearon"])
        .time(board.span, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotation(_deploys())
        .annotation(_maintenance())
        .link(build.DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS).tags(["wearon"]).keep_time(True))
    )
    for name, value in board.fields.items():
        builder = builder.with_variable(build.TextBoxVariable(name).label(name).default_value(value))
    for number, panel in enumerate(board.panels, 1):
        builder = builder.with_panel(_panel(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def _deploys() -> build.AnnotationQuery:
    versions = "count by (version, commit) (wearon_build_info%s)"
    new = f"{versions % ''} unless {versions % ' offset 2m'}"
    return build.AnnotationQuery().name("Deploys").datasource(PROMETHEUS).enable(True).icon_color("blue").expr(new)


def _maintenance() -> build.AnnotationQuery:
    closed = "max(wearon_maintenance_timestamp_seconds) > 0"
    return (
        build.AnnotationQuery()
        .name("Maintenance")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color("orange")
        .expr(closed)
    )


def _panel(panel: Panel, number: int) -> Builder:
    builder = _empty(panel)
    for letter, (legend, query) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        builder = builder.with_target(_query(panel, legend, query).ref_id(letter))
    return (
        builder.id(number)
        .title(panel.question)
        .description(panel.explanation)
        .unit(panel.unit)
        .datasource(panel.source)
        .span(panel.width)
        .height({"number": 4, "logs": 16}.get(panel.kind, 8))
    )


def _empty(panel: Panel) -> Builder:
    match panel.kind:
        case "number":
            return stat.Panel().color_mode(BigValueColorMode.NONE)
        case "table":
            return table.Panel()
        case "logs":
            return logs.Panel().show_time(True).wrap_log_message(True).enable_log_details(True)
        case "lines" | "stacked":
            lines = timeseries.Panel().show_points(VisibilityMode.NEVER).min(0)
            lines = lines.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
            if panel.kind == "lines":
                return lines
            return lines.fill_opacity(30).stacking(common.StackingConfig().mode(StackingMode.NORMAL))


def _query(panel: Panel, legend: str, query: str) -> prometheus.Dataquery | loki.Dataquery:
    if panel.source == LOKI:
        return loki.Dataquery().expr(query).query_type("range").legend_format(legend)
    now = panel.kind in {"number", "table"}
    asked = prometheus.Dataquery().expr(query).legend_format(legend)
    asked = asked.instant() if now else asked.range()
    return asked.format(PromQueryFormat.TABLE) if panel.kind == "table" else asked
