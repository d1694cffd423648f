#include "image/image.h"

#include <sys/stat.h>

#include <algorithm>

#include "disk/raw_layer.h"
#include "image/chain_opener.h"

namespace vhdkit::image {

std::string_view verdict_name(LinkVerdict verdict) {
  switch (verdict) {
    case LinkVerdict::ok:
      return "ok";
    case LinkVerdict::missing:
      return "missing";
    case LinkVerdict::wrong_identity:
      return "wrong-identity";
    case LinkVerdict::cycle:
      return "cycle";
    case LinkVerdict::unreadable:
      return "unreadable";
    case LinkVerdict::too_deep:
      return "too-deep";
  }
  __builtin_unreachable();
}

std::optional<FileIdentity> identity_at(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  if (S_ISBLK(status.st_mode)) return FileIdentity(status.st_rdev, 0);
  return FileIdentity(status.st_dev, status.st_ino);
}

Image::Image(std::vector<ChainLink> links, std::vector<std::unique_ptr<disk::Layer>> layers)
    : links_(std::move(links)), disk_(std::make_unique<disk::LayeredDisk>(std::move(layers))) {}

Async<std::unique_ptr<Image>> Image::open(async::Loop& loop, const std::string& path,
                                          const OpenOptions& options) {
  ChainOpener opener(loop, options);
  CO_TRY(co_await opener.run(path));
  if (opener.links().back().verdict != LinkVerdict::ok)
    co_return fail(opener.broken_code(), opener.links().back().message);
  co_return std::unique_ptr<Image>(new Image(opener.take_links(), opener.take_layers()));
}

Async<std::unique_ptr<Image>> Image::inspect(async::Loop& loop, const std::string& path,
                                             const OpenOptions& options) {
  ChainOpener opener(loop, options);
  CO_TRY(co_await opener.run(path));
  co_return std::unique_ptr<Image>(new Image(opener.take_links(), opener.take_layers()));
}

std::unique_ptr<Image> Image::from_raw(std::unique_ptr<File> file,
                                       std::optional<FileIdentity> identity) {
  std::vector<ChainLink> links(1);
  links.front().path = file->name();
  links.front().format = Format::raw;
  links.front().identity = identity;
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::make_unique<disk::RawLayer>(std::move(file)));
  return std::unique_ptr<Image>(new Image(std::move(links), std::move(layers)));
}

std::vector<std::string> Image::warnings() const {
  std::vector<std::string> all;
  for (const ChainLink& link : links_)
    all.insert(all.end(), link.warnings.begin(), link.warnings.end());
  return all;
}

bool Image::contains_file(const std::string& path) const {
  const std::optional<FileIdentity> asked = identity_at(path);
  return asked && std::ranges::find(links_, asked, &ChainLink::identity) != links_.end();
}

}  // namespace vhdkit::image
