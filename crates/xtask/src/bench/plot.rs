//! The plot: time of a lookup by key against the number of SAs, of one reader alone and beside a writer.

use std::error::Error;

use plotters::prelude::*;

use super::figures::{Figures, names};

const SIZE: (u32, u32) = (1100, 520);
/// The tables that are drawn: with all of them nobody sees anything.
const COLORS: [(&str, RGBColor); 8] = [
    ("hashbrown", RGBColor(0x88, 0x88, 0x88)),
    ("sa-table", RGBColor(0xd6, 0x27, 0x28)),
    ("sa-table, find_many", RGBColor(0xff, 0x7f, 0x0e)),
    ("papaya, same hash", RGBColor(0x1f, 0x77, 0xb4)),
    ("scc HashIndex, same hash", RGBColor(0x2c, 0xa0, 0x2c)),
    ("dashmap", RGBColor(0x94, 0x67, 0xbd)),
    ("liburcu lfht", RGBColor(0x8c, 0x56, 0x4b)),
    ("DPDK rte_hash, bulk", RGBColor(0x17, 0xbe, 0xcf)),
];

/// The plot as SVG.
///
/// # Errors
/// Those of the plotting library, in text.
pub(super) fn draw(figures: &Figures) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((1, 2));
        for (panel, what) in panels.iter().zip(["1 reader", "2 + writer"]) {
            draw_panel(panel, figures, what)?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn draw_panel(
    panel: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    figures: &Figures,
    what: &str,
) -> Result<(), Box<dyn Error>> {
    let rows = || figures.section(names::BY_KEY).filter(|row| row.what == what);
    let drawn = || rows().filter(|row| COLORS.iter().any(|(table, _)| *table == row.table));
    let least = drawn().map(|row| row.figure).fold(f64::INFINITY, f64::min);
    let most = drawn().map(|row| row.figure).fold(0.0, f64::max);
    if most <= 0.0 {
        return Err(format!("there is no figure of {what}").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of SAs are small")]
    let at = |size: u64| size as f64;
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("By key, {what}: ns per lookup"), ("sans-serif", 18))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((100f64..100_000f64).log_scale(), (least / 1.5..most * 3.0).log_scale())?;
    let whole = |number: &f64| format!("{number:.0}");
    chart
        .configure_mesh()
        .x_desc("SAs")
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .light_line_style(WHITE)
        .draw()?;
    for (table, color) in COLORS {
        let points: Vec<(f64, f64)> =
            rows().filter(|row| row.table == table).map(|row| (at(row.size), row.figure)).collect();
        if points.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(table)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
