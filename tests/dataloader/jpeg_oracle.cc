#include "tests/dataloader/jpeg_oracle.h"

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <random>

// jpeglib.h needs size_t and FILE.
#include <jpeglib.h>

#include "dataloader/jpeg/entropy_decoder.h"

namespace weft {
namespace {

struct Errors {
  jpeg_error_mgr manager;
  jmp_buf jump;
};

void Fail(j_common_ptr common) { longjmp(reinterpret_cast<Errors*>(common->err)->jump, 1); }
void Warn(j_common_ptr common, int level) {
  if (level < 0) Fail(common);
}

// `read` between setjmp and the clean-up; it may hold no object with a destructor.
template <typename Read>
bool WithDecoder(std::string_view bytes, const Read& read) {
  jpeg_decompress_struct info;
  Errors errors;
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = &Fail;
  errors.manager.emit_message = &Warn;
  jpeg_create_decompress(&info);
  const bool good = setjmp(errors.jump) == 0;
  if (good) {
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()),
                 static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info, TRUE);
    read(&info);
    jpeg_finish_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
  return good;
}

void Configure(jpeg_compress_struct* info, const JpegSpec& spec) {
  jpeg_set_defaults(info);
  jpeg_set_quality(info, spec.quality, TRUE);
  info->optimize_coding = spec.optimize;
  info->restart_interval = static_cast<unsigned>(spec.restart_interval);
  info->comp_info[0].h_samp_factor = spec.h;
  info->comp_info[0].v_samp_factor = spec.v;
  if (spec.progressive) jpeg_simple_progression(info);
}

}  // namespace

std::string EncodeJpegAs(const Image& image, const JpegSpec& spec) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = spec.gray ? 1 : 3;
  info.in_color_space = spec.gray ? JCS_GRAYSCALE : JCS_RGB;
  Configure(&info, spec);
  jpeg_start_compress(&info, TRUE);
  const auto width = static_cast<size_t>(image.width);
  std::vector<uint8_t> gray(width);
  while (info.next_scanline < info.image_height) {
    const uint8_t* rgb = image.rgb.data() + 3 * width * info.next_scanline;
    for (size_t x = 0; x < width; ++x) gray[x] = rgb[3 * x + 1];
    JSAMPROW row = spec.gray ? gray.data() : const_cast<JSAMPROW>(rgb);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string bytes(reinterpret_cast<const char*>(out), size);
  std::free(out);
  return bytes;
}

Image MakeBusyImage(int width, int height, unsigned seed, int noise) {
  std::mt19937 random(seed);
  Image image{width, height, {}};
  image.rgb.reserve(3 * static_cast<size_t>(width) * static_cast<size_t>(height));
  const auto fx = static_cast<int>(random() % 7 + 1);
  const auto fy = static_cast<int>(random() % 5 + 1);
  const int edge = 8 + static_cast<int>(random() % 40);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool inside = (x / edge + y / edge) % 3 == 0;
      for (int c = 0; c < 3; ++c) {
        int value = (x * fx + y * fy * (c + 1)) / 4 % 256;
        if (inside) value = 255 - value / 2 - 30 * c;
        if (noise > 0)
          value += static_cast<int>(random() % static_cast<unsigned>(2 * noise)) - noise;
        image.rgb.push_back(static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value));
      }
    }
  }
  return image;
}

std::vector<std::vector<int16_t>> OracleCoefficients(std::string_view bytes) {
  std::vector<std::vector<int16_t>> all;
  const bool good = WithDecoder(bytes, [&](j_decompress_ptr info) {
    jvirt_barray_ptr* arrays = jpeg_read_coefficients(info);
    for (int c = 0; c < info->num_components; ++c) {
      const jpeg_component_info& component = info->comp_info[c];
      auto& out = all.emplace_back();
      for (JDIMENSION y = 0; y < component.height_in_blocks; ++y) {
        const JBLOCKROW row = info->mem->access_virt_barray(reinterpret_cast<j_common_ptr>(info),
                                                            arrays[c], y, 1, FALSE)[0];
        for (JDIMENSION x = 0; x < component.width_in_blocks; ++x)
          out.insert(out.end(), row[x], row[x] + 64);
      }
    }
  });
  if (!good) all.clear();
  return all;
}

std::vector<std::vector<int16_t>> OwnCoefficients(std::string_view bytes) {
  jpeg::Header header;
  jpeg::EntropyDecoder decoder;
  if (!jpeg::ParseHeader(bytes, &header) || !decoder.Start(header, bytes)) return {};
  const auto& first = header.components[0];
  std::vector<std::vector<int16_t>> all(static_cast<size_t>(header.num_components));
  jpeg::McuRow row;
  for (int y = 0; y < decoder.mcus_y(); ++y) {
    for (size_t c = 0; c < all.size(); ++c) {
      const auto& component = header.components[c];
      row[c].Resize(component.v, decoder.mcus_x() * component.h);
      row[c].Clear(0, (decoder.mcus_x() * component.h + 3) / 4);
    }
    if (!decoder.DecodeRow(0, decoder.mcus_x(), &row)) return {};
    for (size_t c = 0; c < all.size(); ++c) {
      const auto& component = header.components[c];
      const auto blocks = [](int size, int factor, int max) {
        return ((size * factor + max - 1) / max + 7) / 8;
      };
      const int columns = blocks(header.width, component.h, first.h);
      const int rows = blocks(header.height, component.v, first.v);
      for (int line = 0; line < component.v && y * component.v + line < rows; ++line) {
        for (int x = 0; x < columns; ++x) {
          const int16_t* block = row[c].group(line, x / 4) + 8 * (x % 4);
          for (size_t i = 0; i < 64; ++i) all[c].push_back(block[i / 8 * 32 + i % 8]);
        }
      }
    }
  }
  if (!decoder.AtSegmentEnd()) all.clear();
  return all;
}

bool ReadCoefficients(std::string_view bytes) {
  return WithDecoder(bytes, [](j_decompress_ptr info) { jpeg_read_coefficients(info); });
}

bool OraclePixels(std::string_view bytes, int shrink, Image* image) {
  return WithDecoder(bytes, [&](j_decompress_ptr info) {
    info->scale_num = 1;
    info->scale_denom = static_cast<unsigned>(shrink);
    info->out_color_space = JCS_RGB;
    jpeg_start_decompress(info);
    image->width = static_cast<int>(info->output_width);
    image->height = static_cast<int>(info->output_height);
    const size_t stride = 3 * static_cast<size_t>(image->width);
    image->rgb.resize(stride * static_cast<size_t>(image->height));
    while (info->output_scanline < info->output_height) {
      JSAMPROW row = image->rgb.data() + stride * info->output_scanline;
      jpeg_read_scanlines(info, &row, 1);
    }
  });
}

}  // namespace weft
