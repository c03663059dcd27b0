//! Renders the default music into `assets/default-music.wav`, or into the file named on the command line.

use holdmusic_codecs::music;

fn main() -> Result<(), hound::Error> {
    let asset = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/default-music.wav");
    let path = std::env::args().nth(1).unwrap_or_else(|| asset.into());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: music::RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in music::compose() {
        writer.write_sample(sample)?;
    }
    writer.finalize()
}
